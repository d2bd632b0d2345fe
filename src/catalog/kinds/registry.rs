//! The macro that makes one enum of all kinds, with its delegation.

/// Each line: the variant, which is also the type's name, and its module, which has the type and
/// `async fn read(&mut Reader) -> Result<Vec<Type>>`.
macro_rules! kinds {
    ($($variant:ident => $module:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// An object of any kind.
        #[derive(Debug)]
        pub enum Object {
            $($variant($module::$variant),)*
        }

        impl Object {
            pub fn as_catalog_object(&self) -> &dyn $crate::catalog::CatalogObject {
                match self {
                    $(Object::$variant(object) => object,)*
                }
            }

            /// Place in the registry: what comes first where dependencies leave a choice.
            pub fn priority(&self) -> usize {
                #[allow(clippy::enum_variant_names)]
                enum Priority { $($variant),* }
                match self {
                    $(Object::$variant(_) => Priority::$variant as usize,)*
                }
            }
        }

        /// Names of the kinds, in order.
        pub const KINDS: &[&str] = &[$(stringify!($module)),*];
    };
}

pub(super) use kinds;
