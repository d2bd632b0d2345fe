//! `rdump history`

use clap::Args;

use super::output::{OutputArguments, bytes, print, print_json};
use super::repository::RepositoryArguments;
use crate::error::{Error, Result};
use crate::repository::Run;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    repository: RepositoryArguments,
    /// The newest so many runs
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    output: OutputArguments,
}

impl Arguments {
    pub async fn run(self) -> Result<()> {
        let repository = self.repository.open().await?;
        let runs = repository.runs(self.limit).await?;
        for run in &runs {
            if self.output.json {
                let mut value = serde_json::to_value(run)
                    .map_err(|error| Error::new(format!("could not print a run: {error}")))?;
                if let Some(object) = value.as_object_mut() {
                    object.insert("type".to_owned(), "run".into());
                }
                print_json(&value);
            } else {
                print(line(run));
            }
        }
        if self.output.json {
            print_json(&serde_json::json!({
                "type": "summary", "outcome": "done", "runs": runs.len(),
            }));
        } else if runs.is_empty() {
            self.output.say(&format!("{repository} has no runs"));
        }
        Ok(())
    }
}

fn line(run: &Run) -> String {
    let seconds = run
        .finished
        .as_second()
        .saturating_sub(run.started.as_second());
    let mut line = format!(
        "{}  {}  {}  {}  {seconds} s",
        run.started.strftime("%Y-%m-%d %H:%M:%SZ"),
        run.command,
        run.label.as_deref().unwrap_or("-"),
        run.outcome,
    );
    if let Some(size) = run.size {
        line.push_str(&format!("  {}", bytes(size)));
    }
    for text in [&run.archive, &run.error].into_iter().flatten() {
        line.push_str("  ");
        line.push_str(text);
    }
    line
}
