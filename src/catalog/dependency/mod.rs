//! Ordering objects so that each comes after what it needs.
