//! Language models through rnnfast's C API: handles that free themselves, and errors as `Result`.

use std::ffi::{c_void, CStr, CString};
use std::os::raw::{c_char, c_int};
use std::ptr::null_mut;

const ABI_VERSION: c_int = 1; // RNNFAST_ABI_VERSION in rnnfast.h
const AS_STORED: c_int = -1;

#[link(name = "rnnfast")]
extern "C" {
    fn rnnfast_abi_version() -> c_int;
    fn rnnfast_last_error() -> *const c_char;
    fn rnnfast_model_load(path: *const c_char, weights: c_int, model: *mut *mut c_void) -> c_int;
    fn rnnfast_model_free(model: *mut c_void);
    fn rnnfast_model_vocab_size(model: *const c_void, size: *mut usize) -> c_int;
    fn rnnfast_encode(
        model: *const c_void,
        text: *const c_char,
        size: usize,
        ids: *mut i32,
        count: *mut usize,
    ) -> c_int;
    fn rnnfast_decode(
        model: *const c_void,
        ids: *const i32,
        count: usize,
        text: *mut c_char,
        size: *mut usize,
    ) -> c_int;
    fn rnnfast_state_new(model: *const c_void, state: *mut *mut c_void) -> c_int;
    fn rnnfast_state_free(state: *mut c_void);
    fn rnnfast_step(
        model: *const c_void,
        token: i32,
        state: *mut c_void,
        logits: *mut f32,
        size: usize,
    ) -> c_int;
    fn rnnfast_sampler_new(
        temperature: f64,
        top_k: usize,
        top_p: f64,
        seed: u64,
        sampler: *mut *mut c_void,
    ) -> c_int;
    fn rnnfast_sampler_free(sampler: *mut c_void);
    fn rnnfast_sample(
        sampler: *mut c_void,
        logits: *const f32,
        size: usize,
        token: *mut i32,
    ) -> c_int;
}

pub type Result<T> = std::result::Result<T, String>;

fn check(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // The message is of this thread's last failed call and stays until the next one.
    Err(unsafe { CStr::from_ptr(rnnfast_last_error()) }
        .to_string_lossy()
        .into_owned())
}

/// A model is immutable: threads share it.
pub struct Model(*mut c_void);
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

/// The state of one stream of a model. `step` takes it by `&mut`, so one thread uses it at a time.
pub struct State<'a> {
    model: &'a Model,
    handle: *mut c_void,
}
unsafe impl Send for State<'_> {}

pub struct Sampler(*mut c_void);
unsafe impl Send for Sampler {}

impl Model {
    pub fn load(path: &str) -> Result<Model> {
        if unsafe { rnnfast_abi_version() } != ABI_VERSION {
            return Err("librnnfast has another ABI than this program".into());
        }
        let path = CString::new(path).map_err(|e| e.to_string())?;
        let mut model = null_mut();
        check(unsafe { rnnfast_model_load(path.as_ptr(), AS_STORED, &mut model) })?;
        Ok(Model(model))
    }

    pub fn vocab_size(&self) -> Result<usize> {
        let mut size = 0;
        check(unsafe { rnnfast_model_vocab_size(self.0, &mut size) })?;
        Ok(size)
    }

    pub fn encode(&self, text: &str) -> Result<Vec<i32>> {
        let mut count = text.len(); // a text has at most as many tokens as bytes
        let mut ids = vec![0; count];
        check(unsafe {
            rnnfast_encode(
                self.0,
                text.as_ptr().cast(),
                text.len(),
                ids.as_mut_ptr(),
                &mut count,
            )
        })?;
        ids.truncate(count);
        Ok(ids)
    }

    pub fn decode(&self, ids: &[i32]) -> Result<String> {
        let mut size = 0;
        unsafe { rnnfast_decode(self.0, ids.as_ptr(), ids.len(), null_mut(), &mut size) }; // reports the size
        let mut text = vec![0u8; size];
        check(unsafe {
            rnnfast_decode(
                self.0,
                ids.as_ptr(),
                ids.len(),
                text.as_mut_ptr().cast(),
                &mut size,
            )
        })?;
        text.truncate(size - 1); // the zero
        String::from_utf8(text).map_err(|e| e.to_string())
    }

    pub fn initial_state(&self) -> Result<State<'_>> {
        let mut handle = null_mut();
        check(unsafe { rnnfast_state_new(self.0, &mut handle) })?;
        Ok(State {
            model: self,
            handle,
        })
    }
}

impl State<'_> {
    /// Reads one token; `logits` receives those of the next one.
    pub fn step(&mut self, token: i32, logits: &mut [f32]) -> Result<()> {
        check(unsafe {
            rnnfast_step(
                self.model.0,
                token,
                self.handle,
                logits.as_mut_ptr(),
                logits.len(),
            )
        })
    }
}

impl Sampler {
    pub fn new(temperature: f64, seed: u64) -> Result<Sampler> {
        let mut sampler = null_mut();
        check(unsafe { rnnfast_sampler_new(temperature, 0, 1.0, seed, &mut sampler) })?;
        Ok(Sampler(sampler))
    }

    pub fn sample(&mut self, logits: &[f32]) -> Result<i32> {
        let mut token = 0;
        check(unsafe { rnnfast_sample(self.0, logits.as_ptr(), logits.len(), &mut token) })?;
        Ok(token)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { rnnfast_model_free(self.0) }
    }
}

impl Drop for State<'_> {
    fn drop(&mut self) {
        unsafe { rnnfast_state_free(self.handle) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        unsafe { rnnfast_sampler_free(self.0) }
    }
}
