//! Reading at any place, from any thread.

use std::sync::Arc;

use crate::error::{Error, Result};

/// Bytes of known length, readable at any offset by several threads at once.
pub trait ReadAt: Send + Sync {
    fn size(&self) -> Result<u64>;

    /// Fills `buffer` from `offset`, or fails.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;
}

impl ReadAt for [u8] {
    fn size(&self) -> Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or_else(|| Error::new("read past the end"))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> Result<u64> {
        self.as_slice().size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.as_slice().read_exact_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn size(&self) -> Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for Arc<T> {
    fn size(&self) -> Result<u64> {
        (**self).size()
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// A part of something, as if it were all: a member of a set.
#[derive(Debug)]
pub struct Window<R> {
    source: R,
    offset: u64,
    length: u64,
}

impl<R: ReadAt> Window<R> {
    /// Fails where the source does not reach so far.
    pub fn new(source: R, offset: u64, length: u64) -> Result<Window<R>> {
        match offset.checked_add(length) {
            Some(end) if end <= source.size()? => Ok(Window {
                source,
                offset,
                length,
            }),
            _ => Err(Error::new("read past the end")),
        }
    }

    pub fn whole(source: R) -> Result<Window<R>> {
        let length = source.size()?;
        Window::new(source, 0, length)
    }
}

impl<R: ReadAt> ReadAt for Window<R> {
    fn size(&self) -> Result<u64> {
        Ok(self.length)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let inside = offset
            .checked_add(buffer.len() as u64)
            .is_some_and(|end| end <= self.length);
        if !inside {
            return Err(Error::new("read past the end"));
        }
        // no overflow: it lies within the source
        self.source.read_exact_at(self.offset + offset, buffer)
    }
}
