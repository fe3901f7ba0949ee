//! The code by which a process is told the time, in the image that the kernel shares with it.

use object::{Architecture, Object, ObjectSymbol};
use serde::{Deserialize, Serialize};

/// What Go calls, as the kernel exports it on x86-64.
const NAME: &str = "__vdso_clock_gettime";

/// The system call of the same name: `mov $228, %eax; syscall`.
const CALL: [u8; 7] = [0xb8, 228, 0, 0, 0, 0x0f, 0x05];

/// Why a process can't be told another time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the vDSO can't be read")]
    Image(#[from] object::Error),
    #[error("clocks can be shifted on x86-64 only, and this is {0:?}")]
    Architecture(Architecture),
    #[error("the vDSO has no function `{NAME}`")]
    NoFunction,
    #[error("`{NAME}` has {0} bytes, too few to be replaced")]
    Short(usize),
}

/// The function in a process's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Function {
    pub(super) address: u64,
    pub(super) length: u64,
    pub(super) code: Vec<u8>,
}

impl Function {
    /// Finds it in the image that lies at `start`.
    pub(super) fn find(start: u64, image: &[u8]) -> Result<Self, Error> {
        let file = object::File::parse(image)?;
        if file.architecture() != Architecture::X86_64 {
            return Err(Error::Architecture(file.architecture()));
        }
        let mut symbols = file.dynamic_symbols();
        let symbol = symbols.find(|symbol| symbol.name() == Ok(NAME)).ok_or(Error::NoFunction)?;
        let (offset, length) = (symbol.address(), symbol.size());
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = first.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        let code = image.get(first..end).ok_or(Error::NoFunction)?.to_vec();
        if code.len() < shifted(0).len() {
            return Err(Error::Short(code.len()));
        }
        Ok(Self { address: start + offset, length, code })
    }

    /// Whether it is [`shifted`] by something.
    pub(super) fn is_shifted(&self) -> bool {
        self.code.starts_with(&CALL)
    }
}

/// Code that takes the function's place: the system call, and to what it says of the time of day,
/// clock 0, seconds are added. The kernel keeps all registers but those that a function may change.
pub(super) fn shifted(seconds: i64) -> Vec<u8> {
    let mut code = CALL.to_vec();
    // test %edi, %edi; jne to the last instruction
    code.extend([0x85, 0xff, 0x75, 13]);
    // movabs $seconds, %rdx
    code.extend([0x48, 0xba]);
    code.extend(seconds.to_le_bytes());
    // add %rdx, (%rsi)
    code.extend([0x48, 0x01, 0x16]);
    // ret
    code.push(0xc3);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vDSO of this very process.
    fn own() -> (u64, Vec<u8>) {
        use std::os::unix::fs::FileExt;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.ends_with("[vdso]")).unwrap();
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).unwrap());
        let mut image = vec![0; usize::try_from(end - start).unwrap()];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut image, start).unwrap();
        (start, image)
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_function_is_found_and_is_long_enough() {
        let (start, image) = own();
        let function = Function::find(start, &image).unwrap();
        let offset = usize::try_from(function.address - start).unwrap();
        assert!(image[offset..].starts_with(&function.code));
        assert!(!function.is_shifted());
        assert!(Function { code: shifted(3), ..function }.is_shifted());
        assert!(matches!(Function::find(0, b"no"), Err(Error::Image(_))));
    }

    #[test]
    fn the_jump_leads_to_the_return() {
        let code = shifted(-1);
        // The jump is relative to the instruction after it.
        assert_eq!(code[9..11], [0x75, 13]);
        assert_eq!(code[11 + 13], 0xc3);
        assert_eq!(code.len(), 25);
        assert_eq!(code[13..21], [0xff; 8]);
    }
}
