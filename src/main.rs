//! The program: maps a result to an exit code and does nothing else.

fn main() -> std::process::ExitCode {
    smtp2signl4::cli::main()
}
