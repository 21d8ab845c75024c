//! The wachta binary.

fn main() {
    if std::env::args().nth(1).as_deref() == Some("guard") {
        wachta::run::browser::guard::guard_main(std::io::stdin().lock());
    }
}
