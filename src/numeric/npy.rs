//! NumPy's `.npy`: one array of plain numbers. Nothing in it is executed; an array of objects, which is a pickle, is
//! refused.

/// An array, its bytes where they lie.
pub struct Array<'b> {
    /// Its sides; none for a single number.
    pub shape: Vec<usize>,
    element: Element,
    data: &'b [u8],
}

#[derive(Clone, Copy)]
enum Element {
    F4,
    F8,
    I4,
    I8,
}

impl Element {
    fn of(descr: &str) -> Option<Self> {
        Some(match descr {
            "<f4" => Self::F4,
            "<f8" => Self::F8,
            "<i4" => Self::I4,
            "<i8" => Self::I8,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        match self {
            Self::F4 | Self::I4 => 4,
            Self::F8 | Self::I8 => 8,
        }
    }

    /// A number of as many bytes.
    fn read(self, bytes: &[u8]) -> f64 {
        let four = || bytes.first_chunk().copied().unwrap_or_default();
        let eight = || bytes.first_chunk().copied().unwrap_or_default();
        match self {
            Self::F4 => f64::from(f32::from_le_bytes(four())),
            Self::I4 => f64::from(i32::from_le_bytes(four())),
            Self::F8 => f64::from_le_bytes(eight()),
            Self::I8 => i64::from_le_bytes(eight()) as f64,
        }
    }
}

impl<'b> Array<'b> {
    /// Reads the header and takes what follows, which must be as long as it says.
    ///
    /// # Errors
    /// It is no `.npy`, holds something else than numbers, or is cut off: in words.
    pub fn parse(bytes: &'b [u8]) -> Result<Self, String> {
        const ENDS: &str = "it ends in its header";
        let body = bytes.strip_prefix(b"\x93NUMPY").ok_or("it does not begin as an npy file does")?;
        let (version, rest) = body.split_first_chunk::<2>().ok_or(ENDS)?;
        let (length, rest) = match version {
            [1, _] => rest.split_first_chunk::<2>().map(|(x, rest)| (usize::from(u16::from_le_bytes(*x)), rest)),
            _ => rest.split_first_chunk::<4>().map(|(x, rest)| (u32::from_le_bytes(*x) as usize, rest)),
        }
        .ok_or(ENDS)?;
        let (header, data) = rest.split_at_checked(length).ok_or(ENDS)?;
        let header = String::from_utf8_lossy(header);
        let plain = || format!("it holds no plain numbers, row by row: {:?}", header.trim().escape_debug().to_string());
        let descr = field(&header, "descr").and_then(|rest| rest.strip_prefix('\'')?.split('\'').next());
        let element = descr.and_then(Element::of).ok_or_else(plain)?;
        if !field(&header, "fortran_order").is_some_and(|rest| rest.starts_with("False")) {
            return Err(plain());
        }
        let shape = field(&header, "shape").and_then(sides).ok_or_else(plain)?;
        let count = shape.iter().try_fold(element.size(), |count, side| count.checked_mul(*side));
        if count != Some(data.len()) {
            return Err(format!("it has {} bytes of numbers, which are not those of its shape {shape:?}", data.len()));
        }
        Ok(Self { shape, element, data })
    }

    /// All numbers, the last side fastest.
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.data.chunks_exact(self.element.size()).map(|bytes| self.element.read(bytes))
    }
}

/// What follows a key of the header.
fn field<'h>(header: &'h str, key: &str) -> Option<&'h str> {
    let (_, rest) = header.split_once(&format!("'{key}':"))?;
    Some(rest.trim_start())
}

/// `(2, 3)`, `(2,)` or `()`.
fn sides(text: &str) -> Option<Vec<usize>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    inside.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The bytes of an array.
    pub(crate) fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n");
        let length = (header.len() as u16).to_le_bytes();
        [&b"\x93NUMPY\x01\x00"[..], &length, header.as_bytes(), data].concat()
    }

    #[test]
    fn numbers_of_every_kind_are_read() {
        let read =
            |bytes: &[u8]| Array::parse(bytes).map(|array| (array.shape.clone(), array.numbers().collect::<Vec<_>>()));
        let doubles: Vec<u8> = [1.5_f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(read(&npy("<f8", "(2,)", &doubles)), Ok((vec![2], vec![1.5, -2.0])));
        let floats: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(read(&npy("<f4", "(1, 2)", &floats)), Ok((vec![1, 2], vec![1.5, -2.0])));
        assert_eq!(read(&npy("<i8", "()", &7_i64.to_le_bytes())), Ok((vec![], vec![7.0])));
        assert_eq!(read(&npy("<i4", "()", &(-7_i32).to_le_bytes())), Ok((vec![], vec![-7.0])));
    }

    #[test]
    fn nothing_else_is() {
        let sound = npy("<f8", "(2,)", &[0; 16]);
        for length in 0..sound.len() {
            assert!(Array::parse(&sound[..length]).is_err(), "{length}");
        }
        for wrong in [
            npy("|O", "(2,)", &[0; 16]),
            npy(">f8", "(2,)", &[0; 16]),
            npy("<f8", "(3,)", &[0; 16]),
            npy("<f8", "(-2,)", &[0; 16]),
            npy("<f8", "(18446744073709551615, 2)", &[0; 16]),
            npy("<f8", "2", &[0; 16]),
            [&sound[..], b"x"].concat(),
            String::from_utf8_lossy(&sound).replace("False", "True ").into_bytes(),
        ] {
            assert!(Array::parse(&wrong).is_err());
        }
    }
}
