//! Marks the differing parts of two pictures of a page with frames.

use std::io::Cursor;

/// Side of the compared squares, in pixels.
const SQUARE: usize = 8;
/// Minimum number of differing pixels for a square to count as different …
const PIXELS: usize = 3;
/// … where a pixel differs by more than this in one color channel.
const SHADE: u8 = 24;
/// Maximum distance of squares that are joined into one part.
const NEAR: usize = 3;
/// Width of a frame, in pixels.
const LINE: usize = 3;
/// Color of a frame.
const RED: [u8; 4] = [220, 0, 0, 255];
/// Maximum number of pixels of a picture that is compared.
const LARGEST: usize = 40_000_000;

/// A picture with four bytes per pixel.
struct Pixels {
    width: usize,
    height: usize,
    bytes: Vec<u8>,
}

impl Pixels {
    fn read(png: &[u8]) -> Option<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(png));
        decoder.set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().ok()?;
        let size = reader.output_buffer_size().filter(|size| *size <= LARGEST * 4)?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).ok()?;
        bytes.truncate(info.buffer_size());
        let bytes = match info.color_type {
            png::ColorType::Rgba => bytes,
            png::ColorType::GrayscaleAlpha => {
                bytes.chunks_exact(2).flat_map(|pixel| [pixel[0], pixel[0], pixel[0], pixel[1]]).collect()
            }
            _ => return None,
        };
        Some(Self { width: usize::try_from(info.width).ok()?, height: usize::try_from(info.height).ok()?, bytes })
    }

    fn write(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (width, height) = (u32::try_from(self.width).ok()?, u32::try_from(self.height).ok()?);
        let mut encoder = png::Encoder::new(&mut out, width, height);
        encoder.set_color(png::ColorType::Rgba);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header().ok()?.write_image_data(&self.bytes).ok()?;
        Some(out)
    }

    fn at(&self, x: usize, y: usize) -> &[u8] {
        let start = (y * self.width + x) * 4;
        &self.bytes[start..start + 4]
    }

    /// Returns whether a square differs between the two pictures. Pixels that exist in only one of them count as
    /// different.
    fn differs(&self, other: &Self, column: usize, row: usize) -> bool {
        let mut pixels = 0;
        for y in row * SQUARE..((row + 1) * SQUARE).min(self.height) {
            for x in column * SQUARE..((column + 1) * SQUARE).min(self.width) {
                let same = x < other.width && y < other.height && {
                    let (one, two) = (self.at(x, y), other.at(x, y));
                    one.iter().zip(two).all(|(one, two)| one.abs_diff(*two) <= SHADE)
                };
                pixels += usize::from(!same);
            }
        }
        pixels >= PIXELS
    }

    /// Draws a frame around a part, which is given by its first and last column and row.
    fn frame(&mut self, part: Part) {
        let left = (part.left * SQUARE).saturating_sub(LINE);
        let top = (part.top * SQUARE).saturating_sub(LINE);
        let right = ((part.right + 1) * SQUARE + LINE).min(self.width);
        let bottom = ((part.bottom + 1) * SQUARE + LINE).min(self.height);
        for y in top..bottom {
            for x in left..right {
                let inside = x >= left + LINE && x + LINE < right && y >= top + LINE && y + LINE < bottom;
                if !inside {
                    let start = (y * self.width + x) * 4;
                    self.bytes[start..start + 4].copy_from_slice(&RED);
                }
            }
        }
    }
}

/// A rectangle of squares that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Part {
    fn is_near(&self, other: &Self) -> bool {
        let apart = |end: usize, start: usize| start > end + NEAR;
        !(apart(self.right, other.left)
            || apart(other.right, self.left)
            || apart(self.bottom, other.top)
            || apart(other.bottom, self.top))
    }

    fn and(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

/// Returns the second picture with a frame around each part that differs from the first. Returns `None` if nothing
/// differs or a picture cannot be decoded.
pub(super) fn marked(before: &[u8], now: &[u8]) -> Option<Vec<u8>> {
    let (before, mut now) = (Pixels::read(before)?, Pixels::read(now)?);
    let (columns, rows) = (now.width.div_ceil(SQUARE), now.height.div_ceil(SQUARE));
    let mut parts: Vec<Part> = Vec::new();
    for row in 0..rows {
        for column in (0..columns).filter(|column| now.differs(&before, *column, row)) {
            let mut part = Part { left: column, top: row, right: column, bottom: row };
            // A part that grows may come close to other parts.
            while let Some(near) = parts.iter().position(|other| other.is_near(&part)) {
                part = part.and(&parts.swap_remove(near));
            }
            parts.push(part);
        }
    }
    if parts.is_empty() {
        return None;
    }
    for part in parts {
        now.frame(part);
    }
    now.write()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize, dots: &[(usize, usize)]) -> Pixels {
        let mut pixels = Pixels { width, height, bytes: vec![255; width * height * 4] };
        for (x, y) in dots {
            for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                let start = ((y + dy) * width + x + dx) * 4;
                pixels.bytes[start..start + 3].copy_from_slice(&[0, 0, 0]);
            }
        }
        pixels
    }

    #[test]
    fn parts_that_differ_are_framed_and_nothing_else() {
        let before = picture(200, 120, &[(10, 10)]);
        let now = picture(200, 120, &[(10, 10), (100, 60), (116, 60), (180, 100)]);
        let shown = Pixels::read(&marked(&before.write().unwrap(), &now.write().unwrap()).unwrap()).unwrap();
        let is_red = |x: usize, y: usize| shown.at(x, y) == RED;
        // Two dots close to each other share one frame, and the third has its own. Equal parts have none.
        assert!(is_red(94, 56) && is_red(121, 60) && !is_red(106, 62) && is_red(174, 98) && is_red(185, 100));
        assert!(!is_red(8, 8) && !is_red(10, 10) && !is_red(150, 80));
        assert_eq!(shown.at(100, 60), [0, 0, 0, 255]);
        assert_eq!(marked(&before.write().unwrap(), &before.write().unwrap()), None);
        assert_eq!(marked(b"no picture", &before.write().unwrap()), None);
    }

    #[test]
    fn what_only_one_picture_has_differs() {
        let (before, now) = (picture(64, 64, &[]), picture(64, 96, &[]));
        let shown = Pixels::read(&marked(&before.write().unwrap(), &now.write().unwrap()).unwrap()).unwrap();
        assert!(shown.at(0, 70) == RED && shown.at(30, 30) != RED);
        assert!(marked(&now.write().unwrap(), &before.write().unwrap()).is_none());
    }
}
