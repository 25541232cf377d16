//! Continues a prompt, token by token. For character models.
//!
//!     RNNFAST_LIB=/opt/rnnfast/lib cargo run --release -- MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]

mod rnnfast;

fn number<T: std::str::FromStr>(
    arguments: &[String],
    place: usize,
    otherwise: T,
) -> rnnfast::Result<T> {
    match arguments.get(place) {
        None => Ok(otherwise),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{text}: expected a number")),
    }
}

fn generate(arguments: &[String]) -> rnnfast::Result<()> {
    let length: usize = number(arguments, 3, 200)?;
    let model = rnnfast::Model::load(&arguments[1])?;
    let mut state = model.initial_state()?;
    let mut sampler = rnnfast::Sampler::new(number(arguments, 4, 0.8)?, number(arguments, 5, 0)?)?;
    let mut logits = vec![0.0; model.vocab_size()?];
    let prompt = model.encode(&arguments[2])?;
    for token in &prompt {
        state.step(*token, &mut logits)?;
    }
    print!("{}", arguments[2]);
    for _ in 0..length {
        let token = sampler.sample(&logits)?;
        print!("{}", model.decode(&[token])?);
        state.step(token, &mut logits)?;
    }
    println!();
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() < 3 {
        eprintln!(
            "usage: {} MODEL PROMPT [LENGTH] [TEMPERATURE] [SEED]",
            arguments[0]
        );
        std::process::exit(2);
    }
    if let Err(sentence) = generate(&arguments) {
        eprintln!("{sentence}");
        std::process::exit(1);
    }
}
