//! The flag that cuts a restore into transactions.

use clap::Args;

#[derive(Debug, Args)]
pub struct TransactionArguments {
    /// Restore in transactions of up to N entries each, and stop at the first error (-e). With several
    /// connections (-j), rows, indexes and constraints are committed one by one
    #[arg(long, value_name = "N", conflicts_with = "single_transaction",
          value_parser = clap::value_parser!(u32).range(1..=2_147_483_647))]
    transaction_size: Option<u32>,
}

impl TransactionArguments {
    pub fn size(&self) -> Option<u32> {
        self.transaction_size
    }
}
