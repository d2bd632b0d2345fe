//! The macro that makes one enum of all kinds, with its delegation, and reads them all.

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

        /// The names of all kinds, in the order of the registry.
        pub const NAMES: &[&str] = &[$(stringify!($variant)),*];

        impl Object {
            /// One of `NAMES`.
            pub fn kind(&self) -> &'static str {
                NAMES[self.priority()]
            }

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

        /// Reads the objects of all kinds, in the order of the registry.
        pub async fn read_all(
            reader: &mut $crate::catalog::reader::Reader<'_>,
        ) -> $crate::error::Result<Vec<Object>> {
            let mut objects = Vec::new();
            $(objects.extend($module::read(reader).await?.into_iter().map(Object::$variant));)*
            Ok(objects)
        }
    };
}

pub(super) use kinds;
