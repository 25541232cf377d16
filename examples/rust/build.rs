// RNNFAST_LIB is the folder of librnnfast.so, if the linker does not know it.
fn main() {
    println!("cargo:rerun-if-env-changed=RNNFAST_LIB");
    if let Ok(folder) = std::env::var("RNNFAST_LIB") {
        println!("cargo:rustc-link-search=native={folder}");
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
