//! From objects to entries: reading, sorting, rendering, with comments and privileges.

use std::collections::{BTreeSet, HashMap, HashSet};

use bstr::{BStr, BString, ByteSlice};

use super::ahead;
use super::dependency::{self, Graph, Node, Sorted};
use super::filter::prune;
use super::kinds::{self, Object};
use super::labels::Labels;
use super::object::{
    Address, Defining, Definition, Drop, Identity, PrivilegeTarget, Privileges, class,
};
use super::reader::Reader;
use super::scope::Scope;
use crate::archive::{Contents, Entry, EntryId, Pass, Section};
use crate::error::{Result, ResultExt};
use crate::postgres::{ServerVersion, Session};
use crate::sql;
use crate::sql::privileges::{PrivilegeTargetSql, statements};

/// What was read of a database: the entries of its objects, in restore order.
#[derive(Debug)]
pub struct Catalog {
    pub version: ServerVersion,
    pub entries: Vec<Entry>,
    /// Of every object that can have any, in the order of the entries.
    pub privileges: Vec<Privileges>,
    /// Rows that one COPY must hold, since whoever restores them alone has them checked at its end.
    pub whole: HashSet<EntryId>,
    /// What the user should know: loops broken, invalid indexes left out.
    pub warnings: Vec<String>,
}

/// Reads all objects in the session's current transaction and orders them.
pub async fn read(session: &mut Session, scope: &Scope) -> Result<Catalog> {
    order_all(Reader::new(session, scope).await?).await
}

/// As `read`, with another session that sees the same snapshot and answers some of the queries.
pub async fn read_with(
    session: &mut Session,
    helper: &mut Session,
    scope: &Scope,
) -> Result<Catalog> {
    let mut reader = Reader::new(session, scope).await?;
    let mut queries = vec![
        kinds::constraint::keys_query(&reader),
        kinds::foreign_key::query(&reader),
        DEPENDENCIES.to_owned(),
        COMMENTS.to_owned(),
    ];
    // these lock tables: where somebody waits for one, the others have been asked already
    queries.extend(kinds::index::queries(&reader));
    let (ahead, questions) = ahead::asking(queries);
    reader.ahead = ahead;
    let (catalog, helped) = tokio::join!(order_all(reader), questions.ask(helper));
    let catalog = catalog?;
    helped.context("reading the catalogs over another connection")?;
    Ok(catalog)
}

async fn order_all(mut reader: Reader<'_>) -> Result<Catalog> {
    let scope = reader.scope;
    let mut objects = kinds::read_all(&mut reader).await?;
    objects.sort_by_cached_key(natural_order);
    let edges = read_dependencies(&mut reader).await?;
    let comments = read_comments(&mut reader).await?;
    let labels = match scope.parts.no_security_labels {
        true => Labels::default(),
        false => Labels::read(&mut reader).await?,
    };

    let mut graph = build_graph(&objects, &reader, &edges);
    let Sorted {
        order,
        placement,
        warnings,
    } = dependency::sort(&mut graph);

    let mut rendering = Rendering {
        entries: Vec::new(),
        privileges: Vec::new(),
        entry_of: vec![None; objects.len()],
        graph: &graph,
        comments: &comments,
        labels: &labels,
        separate: &placement.separate,
    };
    let context = Defining {
        version: reader.version,
        placement: &placement,
    };
    for node in order {
        let object = objects[node].as_catalog_object();
        let label = graph.label(node).to_owned();
        let definition = object
            .define(&context)
            .with_context(|| format!("describing {label}"))?;
        if let Some(definition) = definition {
            rendering.add(node, &objects[node], definition)?;
        }
    }
    let mut all_warnings = reader.take_warnings();
    all_warnings.extend(warnings);
    let Rendering {
        mut entries,
        mut privileges,
        ..
    } = rendering;
    let mut whole = HashSet::new();
    if scope.parts.leaves_out_some() {
        let pruned = prune(&mut entries, &scope.parts, &mut all_warnings);
        whole = pruned.whole;
        privileges.retain_mut(|of| match of.entry {
            None => true,
            Some(id) => {
                of.entry = pruned.numbers.get(&id).copied();
                of.entry.is_some()
            }
        });
    }
    Ok(Catalog {
        version: reader.version,
        entries,
        privileges,
        whole,
        warnings: all_warnings,
    })
}

/// Never by OID: equal schemas must give equal archives.
fn natural_order(object: &Object) -> (usize, BString, BString, BString) {
    let as_object = object.as_catalog_object();
    let identity = as_object.identity();
    (
        object.priority(),
        identity.schema.clone().unwrap_or_default(),
        identity.name.clone(),
        as_object.natural_key(),
    )
}

/// pg_depend without what is pinned or belongs to an extension.
const DEPENDENCIES: &str = "
    SELECT classid, objid, refclassid, refobjid
    FROM pg_depend WHERE deptype NOT IN ('p', 'e')";

async fn read_dependencies(reader: &mut Reader<'_>) -> Result<Vec<(Address, Address)>> {
    let rows = reader.query("dependencies", DEPENDENCIES).await?;
    rows.iter()
        .map(|row| {
            let from = Address::new(row.number("classid")?, row.number("objid")?);
            let to = Address::new(row.number("refclassid")?, row.number("refobjid")?);
            Ok((from, to))
        })
        .collect()
}

/// An object or a column of it, and what COMMENT ON calls it.
type Described = (Address, i32, BString);

/// Comments by object and column.
type Comments = HashMap<Address, Vec<(i32, BString)>>;

const COMMENTS: &str = "
    SELECT classoid, objoid, objsubid, description FROM pg_description
    WHERE objoid >= 16384
       OR classoid IN ('pg_namespace'::regclass, 'pg_largeobject'::regclass)
    UNION ALL
    SELECT classoid, objoid, 0, description FROM pg_shdescription
    WHERE classoid = 'pg_database'::regclass
      AND objoid = (SELECT oid FROM pg_database WHERE datname = current_database())
    ORDER BY classoid, objoid, objsubid";

async fn read_comments(reader: &mut Reader<'_>) -> Result<Comments> {
    let rows = reader.query("comments", COMMENTS).await?;
    let mut comments = Comments::new();
    for row in &rows {
        let address = Address::new(row.number("classoid")?, row.number("objoid")?);
        comments
            .entry(address)
            .or_default()
            .push((row.number("objsubid")?, row.text("description")?));
    }
    Ok(comments)
}

fn build_graph(objects: &[Object], reader: &Reader<'_>, edges: &[(Address, Address)]) -> Graph {
    let mut aliases = HashMap::new();
    let nodes = objects
        .iter()
        .map(|object| {
            let object = object.as_catalog_object();
            let identity = object.identity();
            for alias in object.aliases() {
                aliases.insert(alias, identity.address);
            }
            Node {
                address: identity.address,
                section: object.section(),
                separate_section: object.separate_section(),
                inline_in: object.inline_in(),
                may_be_postponed: object.may_be_postponed(),
                leaves_dummy: object.leaves_dummy(),
                shell: object.shell(),
                label: identity.sql().to_string(),
            }
        })
        .collect();
    // whoever needs a member of an extension needs the extension
    for (member, extension) in reader.members() {
        aliases.entry(*member).or_insert(*extension);
    }
    let mut graph = Graph::new(nodes, &aliases);
    let members = reader.members();
    for &(from, to) in edges {
        // what stands between its members is the extension's own affair
        if members
            .get(&from)
            .is_some_and(|of| members.get(&to) == Some(of))
        {
            continue;
        }
        graph.depend(from, to);
    }
    for object in objects {
        let object = object.as_catalog_object();
        let address = object.identity().address;
        for needed in object.requires() {
            graph.depend(address, needed);
        }
        // a member that is kept for its privileges or rows still comes after its extension
        if let Some(&extension) = reader.members().get(&address) {
            graph.depend(address, extension);
        }
    }
    graph
}

struct Rendering<'a> {
    entries: Vec<Entry>,
    privileges: Vec<Privileges>,
    /// The entry of each node that has one.
    entry_of: Vec<Option<EntryId>>,
    graph: &'a Graph,
    comments: &'a Comments,
    labels: &'a Labels,
    /// Parts of others that became entries after all, with their own comments.
    separate: &'a HashSet<Address>,
}

impl Rendering<'_> {
    fn add(&mut self, node: usize, object: &Object, definition: Definition) -> Result<()> {
        let object = object.as_catalog_object();
        let identity = object.identity();
        let member = identity.privileges_only;
        let mut own = None;
        let bare = definition.create.is_empty()
            && definition.contents == Contents::None
            && definition.drop == Drop::None
            && definition.owner_target.is_none();
        if !member || definition.contents != Contents::None {
            let dependencies = self.dependencies(node);
            let id = self.next_id();
            if !bare {
                let (drop, drop_if_exists) = drops(&definition.drop);
                self.entries.push(Entry {
                    id,
                    kind: definition.descriptor.to_owned(),
                    section: definition.section,
                    pass: definition.pass,
                    schema: identity.schema.clone(),
                    name: definition.tag.clone(),
                    relation: definition.relation.clone(),
                    owner: identity.owner.clone(),
                    owner_target: definition.owner_target.clone(),
                    tablespace: definition.tablespace.clone(),
                    access_method: definition.access_method.clone(),
                    create: definition.create.clone(),
                    drop,
                    drop_if_exists,
                    dependencies,
                    contents: definition.contents.clone(),
                    load_into: definition.load_into.clone(),
                });
                own = Some(id);
                self.entry_of[node] = own;
            }
        }
        let needed: Vec<EntryId> = match own {
            Some(id) => vec![id],
            None => self.dependencies(node),
        };
        if !member {
            let described = self.described(object, &definition);
            self.add_comments(object, &definition, &described, &needed);
            self.add_labels(object, &definition, &described, &needed);
        }
        if let Some(object_type) = object.default_privileges_for() {
            self.keep_privileges(identity, &definition, own, "DEFAULT ACL", object_type);
        }
        self.add_privileges(object, &definition, own, &needed)
    }

    fn keep_privileges(
        &mut self,
        identity: &Identity,
        definition: &Definition,
        entry: Option<EntryId>,
        kind: &'static str,
        object_type: &'static str,
    ) {
        let target = definition.privileges.as_ref();
        let fresh = identity.acl_default.clone();
        let fresh = fresh.unwrap_or_else(|| BString::from("{}"));
        self.privileges.push(Privileges {
            entry,
            kind,
            schema: identity.schema.clone(),
            tag: match target {
                Some(_) => acl_tag(object_type, definition),
                None => definition.tag.clone(),
            },
            relation: attached_relation(identity),
            owner: identity.owner.clone().unwrap_or_default(),
            privileges_only: identity.privileges_only,
            object_type,
            name: target.map(|target| target.name.clone()).unwrap_or_default(),
            acl: identity.acl.clone().unwrap_or_else(|| fresh.clone()),
            fresh,
            columns: target
                .map(|target| target.columns.clone())
                .unwrap_or_default(),
        });
    }

    fn next_id(&self) -> EntryId {
        EntryId(self.entries.len() as u32 + 1)
    }

    /// Entries of all that a node needs; through nodes that have no entry of their own.
    fn dependencies(&self, node: usize) -> Vec<EntryId> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open: Vec<usize> = self.graph.needs(node).collect();
        while let Some(other) = open.pop() {
            if !seen.insert(other) {
                continue;
            }
            match self.entry_of[other] {
                Some(id) => {
                    found.insert(id);
                }
                None => open.extend(self.graph.needs(other)),
            }
        }
        found.into_iter().collect()
    }

    fn add_comments(
        &mut self,
        object: &dyn super::CatalogObject,
        definition: &Definition,
        described: &[Described],
        needed: &[EntryId],
    ) {
        let identity = object.identity();
        for (address, column, target) in described {
            let text = self
                .comments
                .get(address)
                .and_then(|all| all.iter().find(|(subid, _)| subid == column))
                .map(|(_, text)| text);
            if text.map(|text| text.as_bstr()) == initial_comment(identity) {
                continue;
            }
            let text = text.map_or_else(|| BString::from("NULL"), sql::literal);
            let create = sql!("COMMENT ON {} IS {};\n", target, text);
            self.push_attached(
                "COMMENT",
                definition.section,
                definition.pass,
                object,
                target.clone(),
                create,
                needed,
            );
        }
    }

    /// What may have a comment or a label: the object, and parts that are no entries of their own.
    fn described(
        &self,
        object: &dyn super::CatalogObject,
        definition: &Definition,
    ) -> Vec<Described> {
        let address = object.identity().address;
        let own = definition.comment_target.clone();
        let parts = object.comment_columns().into_iter();
        own.map(|target| (address, 0, target))
            .into_iter()
            .chain(parts.filter(|(address, ..)| !self.separate.contains(address)))
            .collect()
    }

    /// One entry for an object and its columns, as pg_dump has it.
    fn add_labels(
        &mut self,
        object: &dyn super::CatalogObject,
        definition: &Definition,
        described: &[Described],
        needed: &[EntryId],
    ) {
        if self.labels.is_empty() {
            return;
        }
        for same in described.chunk_by(|(left, ..), (right, ..)| left == right) {
            let mut create = BString::default();
            let mut tag = None;
            for (address, column, target) in same {
                let own = self.labels.statements(*address, *column, target.as_bstr());
                // columns are named by their table where that is here
                if *column == 0 || (tag.is_none() && !own.is_empty()) {
                    tag = Some(target);
                }
                create.extend_from_slice(&own);
            }
            if let (false, Some(tag)) = (create.is_empty(), tag) {
                self.push_attached(
                    "SECURITY LABEL",
                    definition.section,
                    definition.pass,
                    object,
                    tag.clone(),
                    create,
                    needed,
                );
            }
        }
    }

    fn add_privileges(
        &mut self,
        object: &dyn super::CatalogObject,
        definition: &Definition,
        own: Option<EntryId>,
        needed: &[EntryId],
    ) -> Result<()> {
        let Some(target) = &definition.privileges else {
            return Ok(());
        };
        self.keep_privileges(
            object.identity(),
            definition,
            own,
            "ACL",
            target.object_type,
        );
        let create = privileges_of(object.identity(), target)?;
        if !create.is_empty() {
            let tag = acl_tag(target.object_type, definition);
            self.push_attached(
                "ACL",
                definition.section,
                Pass::Privileges,
                object,
                tag,
                create,
                needed,
            );
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn push_attached(
        &mut self,
        kind: &str,
        section: Section,
        pass: Pass,
        object: &dyn super::CatalogObject,
        name: BString,
        create: BString,
        needed: &[EntryId],
    ) {
        let identity = object.identity();
        self.entries.push(Entry {
            pass,
            schema: identity.schema.clone(),
            name,
            relation: attached_relation(identity),
            owner: identity.owner.clone(),
            create,
            dependencies: needed.to_vec(),
            ..Entry::new(self.next_id(), kind, section)
        });
    }
}

/// As pg_dump has it; the tag tells overloaded functions apart.
fn acl_tag(object_type: &str, definition: &Definition) -> BString {
    sql!("{} {}", object_type, definition.tag)
}

fn attached_relation(identity: &Identity) -> Option<BString> {
    (identity.address.class == class::RELATION).then(|| identity.name.clone())
}

/// GRANT and REVOKE for an object and its columns.
fn privileges_of(identity: &Identity, target: &PrivilegeTarget) -> Result<BString> {
    let owner = identity
        .owner
        .as_ref()
        .map_or(BStr::new(""), |owner| owner.as_bstr());
    let none = BString::from("{}");
    let mut text = BString::default();
    if let Some(acl) = &identity.acl {
        let base = identity.acl_default.as_ref().unwrap_or(&none);
        let named = PrivilegeTargetSql {
            object_type: target.object_type,
            name: target.name.as_bstr(),
            column: None,
        };
        text = statements(&named, acl.as_bstr(), base.as_bstr(), owner)?;
    }
    for own in &target.columns {
        let named = PrivilegeTargetSql {
            object_type: target.object_type,
            name: target.name.as_bstr(),
            column: Some(own.column.as_bstr()),
        };
        let (acl, fresh) = (own.acl.as_bstr(), own.fresh.as_bstr());
        text.extend_from_slice(&statements(&named, acl, fresh, owner)?);
    }
    Ok(text)
}

/// initdb comments on "public" itself; only a changed comment, or its removal, is the user's.
fn initial_comment(identity: &Identity) -> Option<&'static BStr> {
    let is_public = identity.address.class == class::NAMESPACE && identity.name == "public";
    is_public.then_some(BStr::new("standard public schema"))
}

fn drops(drop: &Drop) -> (BString, BString) {
    match drop {
        Drop::None => Default::default(),
        Drop::Object(target) => {
            // "TABLE public.orders": IF EXISTS stands between the two, after MATERIALIZED VIEW too
            let words = object_type_words(target.as_bstr());
            let (kind, name) = target.split_at(words);
            (
                sql!("DROP {};\n", target),
                sql!("DROP {} IF EXISTS{};\n", kind, name),
            )
        }
        Drop::Statement { plain, if_exists } => (plain.clone(), if_exists.clone()),
    }
}

/// Length of the object type that a target begins with: its words in capitals.
fn object_type_words(target: &BStr) -> usize {
    let mut end = 0;
    for word in target.split(|&byte| byte == b' ') {
        if word.is_empty() || !word.iter().all(u8::is_ascii_uppercase) {
            break;
        }
        end += word.len() + usize::from(end > 0);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_exists_stands_after_the_object_type() {
        let drop = |target: &str| drops(&Drop::Object(target.into()));
        assert_eq!(
            drop("MATERIALIZED VIEW public.v"),
            (
                "DROP MATERIALIZED VIEW public.v;\n".into(),
                "DROP MATERIALIZED VIEW IF EXISTS public.v;\n".into()
            )
        );
        assert_eq!(
            drop("TABLE \"A B\".\"C\"").1,
            "DROP TABLE IF EXISTS \"A B\".\"C\";\n"
        );
    }
}
