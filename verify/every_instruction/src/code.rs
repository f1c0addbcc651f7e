//! Which instructions are the library's own: those of functions whose names hold the name of the crate.
//! Generic code of other crates that was made for a type of the library counts, too.

use std::{fmt, fs, ops::Range};

use clap::ValueEnum;
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

/// Whose instructions count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Whose {
    /// The library's.
    Library,
    /// Those of the standard library, of the C library and of all other crates, too.
    All,
}

/// The functions of the library in this program, by address.
pub struct Code {
    whose: Whose,
    /// Where code of files is, the C library's and this program's.
    files: Vec<Range<u64>>,
    functions: Vec<Function>,
    /// Addresses in memory minus addresses in the file.
    shift: u64,
}

struct Function {
    range: Range<u64>,
    name: String,
}

impl Code {
    /// The library's code in the running program.
    pub fn of_this_program(whose: Whose) -> Result<Self, String> {
        let path = fs::read_link("/proc/self/exe").map_err(|error| error.to_string())?;
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = object::File::parse(&*bytes).map_err(|error| error.to_string())?;
        let mut functions: Vec<Function> = file
            .symbols()
            .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0)
            .filter_map(|symbol| {
                let name = rustc_demangle::try_demangle(symbol.name().ok()?).ok()?;
                let name = format!("{name:#}");
                let range = symbol.address()..symbol.address() + symbol.size();
                name.contains("shmcreds::").then_some(Function { range, name })
            })
            .collect();
        if functions.is_empty() {
            return Err("this program has no symbols; build it with strip = \"none\"".into());
        }
        functions.sort_by_key(|function| function.range.start);
        let lowest = file.segments().map(|segment| segment.address()).min().unwrap_or(0);
        let maps = fs::read_to_string("/proc/self/maps").map_err(|error| error.to_string())?;
        let path = path.to_string_lossy();
        let first = maps.lines().find(|line| line.ends_with(&*path)).and_then(addresses);
        let first = first.ok_or("the program does not find its own code in memory")?;
        // The kernel's own page of code cannot be given a breakpoint.
        let code = |line: &&str| line.contains(" r-xp ") && line.contains(" /");
        let files = maps.lines().filter(code).filter_map(addresses).collect();
        Ok(Code { whose, files, functions, shift: first.start - lowest })
    }

    pub fn contains(&self, address: u64) -> bool {
        match self.whose {
            Whose::Library => self.function(address).is_some(),
            Whose::All => self.files.iter().any(|file| file.contains(&address)),
        }
    }

    /// The place of `address`, for people.
    pub fn place(&self, address: u64) -> Place<'_> {
        let offset = |f: &Function| address - self.shift - f.range.start;
        let function = self.function(address).map(|f| (f.name.as_str(), offset(f)));
        Place { address, function }
    }

    fn function(&self, address: u64) -> Option<&Function> {
        let address = address.checked_sub(self.shift)?;
        let after = self.functions.partition_point(|function| function.range.start <= address);
        let function = &self.functions[after.checked_sub(1)?];
        function.range.contains(&address).then_some(function)
    }
}

/// The addresses of a line of `/proc/self/maps`.
fn addresses(line: &str) -> Option<Range<u64>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whose {
            Whose::Library => write!(f, "in {} functions of the library", self.functions.len()),
            Whose::All => f.write_str("anywhere but in the kernel's own page"),
        }
    }
}

/// An instruction: its function and the distance from the function's start.
pub struct Place<'a> {
    address: u64,
    function: Option<(&'a str, u64)>,
}

impl Place<'_> {
    pub fn function(&self) -> &str {
        self.function.map_or("?", |(name, _)| name)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.function {
            Some((name, offset)) => write!(f, "{name}+{offset:#x}"),
            None => write!(f, "{:#x}", self.address),
        }
    }
}
