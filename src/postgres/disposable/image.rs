//! Making sure that Docker has an image of PostgreSQL.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::container::docker;
use super::program::program;
use super::{tail, unique_name};
use crate::error::{Error, Result, ResultExt};

/// The recipe travels with the program, so that the demonstration needs no other file.
const RECIPE: [(&str, &str); 3] = [
    ("build", include_str!("../../../fixtures/images/build")),
    (
        "Dockerfile.in",
        include_str!("../../../fixtures/images/Dockerfile.in"),
    ),
    (
        "entrypoint",
        include_str!("../../../fixtures/images/entrypoint"),
    ),
];

/// A registry that is reachable answers within this time; after that a pull may take long.
const FIRST_ANSWER: Duration = Duration::from_secs(30);
const PULL_LIMIT: Duration = Duration::from_secs(900);

/// Makes `postgres:MAJOR` available: it is there, or is pulled, or is built from Debian packages.
///
/// Building needs root and a Debian mirror, and happens only for a program that runs from its
/// source tree: an installed one does not change the machine. Calls from several processes wait
/// for one another.
pub async fn ensure_image(major: u32, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
    let image = format!("postgres:{major}");
    if present(&image).await {
        return Ok(());
    }
    let lock_path = std::env::temp_dir().join(format!("rdump-image-{major}.lock"));
    let _lock = tokio::task::spawn_blocking(move || lock(&lock_path))
        .await
        .map_err(|error| Error::new(error.to_string()))??;
    if present(&image).await {
        return Ok(());
    }

    progress(&format!("pulling image {image}"));
    let Err(pulled) = pull(&image).await else {
        return Ok(());
    };
    if !in_source_tree() {
        return Err(Error::new(format!(
            "image {image} is not on this machine and cannot be pulled: {pulled}"
        ))
        .hint("install PostgreSQL's server package, or provide the image to Docker"));
    }
    progress(&format!(
        "image {image} cannot be pulled ({pulled}); building it, which takes some minutes"
    ));
    build(major, progress)
        .await
        .with_context(|| format!("image {image} cannot be pulled ({pulled})"))
}

/// Makes any other image available: it is there, or is pulled.
pub async fn ensure_named_image(
    image: &str,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<()> {
    if present(image).await {
        return Ok(());
    }
    progress(&format!("pulling image {image}"));
    pull(image).await.map_err(|pulled| {
        Error::new(format!(
            "image {image} is not on this machine and cannot be pulled: {pulled}"
        ))
        .hint("provide the image to Docker, with docker pull, load or build")
    })
}

async fn present(image: &str) -> bool {
    docker(["image", "inspect", "--format", "{{.Id}}", image], &[])
        .await
        .is_ok()
}

fn lock(path: &Path) -> Result<File> {
    let file = match File::options().append(true).create(true).open(path) {
        Ok(file) => file,
        // Made by another user: a lock needs no permission to write.
        Err(_) => File::open(path).with_context(|| format!("opening {}", path.display()))?,
    };
    file.lock()
        .with_context(|| format!("locking {}", path.display()))?;
    Ok(file)
}

/// Whether the program was built here: run by cargo, or from a folder within the source tree.
fn in_source_tree() -> bool {
    let recipe = Path::new("fixtures/images/build");
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR")
        .is_some_and(|root| Path::new(&root).join(recipe).exists());
    by_cargo
        || std::env::current_exe().is_ok_and(|program| {
            program
                .ancestors()
                .any(|folder| folder.join(recipe).exists())
        })
}

async fn pull(image: &str) -> Result<(), String> {
    let mut child = program("docker")
        .args(["pull", image])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("docker: {error}"))?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        if tokio::time::timeout(FIRST_ANSWER, lines.next_line())
            .await
            .is_err()
        {
            return Err(format!(
                "the registry did not answer within {} seconds",
                FIRST_ANSWER.as_secs()
            ));
        }
        // Read on, so that the pull is not held up by a full pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    }
    match tokio::time::timeout(PULL_LIMIT, child.wait_with_output()).await {
        Err(_) => Err(format!(
            "the pull did not end within {} seconds",
            PULL_LIMIT.as_secs()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => Err(tail(String::from_utf8_lossy(&output.stderr).trim(), 1)),
    }
}

async fn build(major: u32, progress: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
    let folder = RecipeFolder::write()?;
    let mut child = program("bash")
        .arg(folder.0.join("build"))
        .arg(major.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("running the image recipe with bash")?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            progress(&line);
            said.push_str(&line);
            said.push('\n');
        }
    }
    let status = child.wait().await.context("running the image recipe")?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::new(format!(
            "the image recipe failed ({status}):\n{}",
            tail(&said, 20)
        )))
    }
}

/// The recipe's files in a temporary folder, removed when dropped.
struct RecipeFolder(PathBuf);

impl RecipeFolder {
    fn write() -> Result<RecipeFolder> {
        let folder = std::env::temp_dir().join(unique_name());
        std::fs::create_dir(&folder)
            .with_context(|| format!("creating folder {}", folder.display()))?;
        let folder = RecipeFolder(folder);
        for (name, contents) in RECIPE {
            let path = folder.0.join(name);
            std::fs::write(&path, contents)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(folder)
    }
}

impl Drop for RecipeFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
