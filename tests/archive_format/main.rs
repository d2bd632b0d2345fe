//! The archive format, from outside: what the writer writes, the readers read, and what is not
//! what the writer wrote, both refuse.

mod damage;
mod encryption;
mod forging;
mod golden;
mod round_trip;
mod sample;
mod set;
