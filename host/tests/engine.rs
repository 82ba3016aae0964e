//! The engine on the simulator: whatever is computed together, in whatever chunks, drafted or not, from a graph or not, the logits of a
//! sequence have the same bytes. Every comparison is of two runs that took different steps.

use host::device::{Device, SimtOptions};
use host::model::ModelError;
use host::model::engine::{Draft, Engine, Feed, GraphState, Options, Request, Sampling, SeqId};

/// One model of each family.
const TINY: [&str; 5] = [
    "synthetic:tiny-llama",
    "synthetic:tiny-qwen3",
    "synthetic:tiny-qwen3-coder",
    "synthetic:tiny-qwen3-next",
    "synthetic:tiny-qwen3.6",
];
/// Tokens of the prompt: over a chunk of 64, no multiple of anything.
const PROMPT: usize = 70;
/// Tokens that are generated.
const NEW: usize = 5;

/// Accesses are checked in the tests that compare with transformers; here it is bytes that are compared, several times as fast.
fn load(name: &str, options: Options) -> Engine {
    let device = Device::simt_with(SimtOptions {
        checks: false,
        ..SimtOptions::default()
    });
    let opened = host::model::open(name).unwrap();
    Engine::load(&device, opened.as_ref(), options).unwrap()
}

fn options() -> Options {
    Options {
        max_seqs: 3,
        context: 256,
        chunk: 128,
        drafts: 3,
        ..Options::default()
    }
}

fn prompt(engine: &Engine, salt: u32, count: usize) -> Vec<u32> {
    let vocab = engine.config().vocab;
    (0..count as u32)
        .map(|i| (i * 37 + i * i % 11 + salt) % vocab)
        .collect()
}

/// A run's tokens, with the bits of the logits each was chosen by.
#[derive(Debug, PartialEq)]
struct Run {
    tokens: Vec<u32>,
    logits: Vec<Vec<u32>>,
}

fn bits(logits: &[f32]) -> Vec<u32> {
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Prefill and then one token a step, of one sequence among others, of which there are as many as `others` says, each with a prompt of so
/// many tokens.
fn run(engine: &mut Engine, prompt_tokens: &[u32], others: &[usize], sampling: Sampling) -> Run {
    let vocab = engine.config().vocab as usize;
    let mut prompts: Vec<Vec<u32>> = others.iter().map(|&n| prompt(engine, n as u32, n)).collect();
    // Not the first.
    let place = prompts.len().min(1);
    prompts.insert(place, prompt_tokens.to_vec());
    let seqs: Vec<SeqId> = prompts.iter().map(|_| engine.open(sampling).unwrap()).collect();
    // The others have their prompts first where all would not fit in one step: the last step's logits are the sequence's own.
    for (i, tokens) in prompts.iter().enumerate().filter(|(i, _)| *i != place) {
        engine.prefill(&[Feed { seq: seqs[i], tokens }]).unwrap();
    }
    let first = engine.prefill(&[Feed {
        seq: seqs[place],
        tokens: &prompts[place],
    }]);
    let mut run = Run {
        tokens: first.unwrap(),
        logits: vec![bits(&engine.logits().unwrap())],
    };
    let mut last: Vec<u32> = (0..prompts.len()).map(|i| 3 + i as u32).collect();
    for _ in 1..NEW {
        last[place] = run.tokens[run.tokens.len() - 1];
        let feeds: Vec<Feed<'_>> = seqs
            .iter()
            .zip(last.chunks(1))
            .map(|(&seq, tokens)| Feed { seq, tokens })
            .collect();
        let chosen = engine.decode(&feeds).unwrap();
        for (last, chosen) in last.iter_mut().zip(&chosen) {
            *last = chosen[0];
        }
        run.tokens.push(chosen[place][0]);
        let logits = engine.logits().unwrap();
        run.logits.push(bits(&logits[place * vocab..][..vocab]));
    }
    seqs.into_iter().for_each(|seq| engine.close(seq));
    run
}

#[test]
fn logits_do_not_depend_on_batch_chunks_graphs_or_earlier_sequences() {
    for name in TINY {
        let mut engine = load(name, options());
        let tokens = prompt(&engine, 1, PROMPT);
        engine.set_graphs(false);
        let alone = run(&mut engine, &tokens, &[], Sampling::GREEDY);
        assert!(
            alone.logits.iter().flatten().all(|&x| f32::from_bits(x).is_finite()),
            "{name}"
        );
        engine.set_graphs(true);
        // Pages and slots are another's of before, and steps are captured and replayed.
        let together = run(&mut engine, &tokens, &[5, 33], Sampling::GREEDY);
        assert_eq!(alone, together, "{name} among others");
        assert!(
            engine
                .graphs()
                .iter()
                .any(|(_, state)| matches!(state, GraphState::Captured(_))),
            "{name}: {:?}",
            engine.graphs()
        );
        engine.set_chunk(64).unwrap();
        let chunked = run(&mut engine, &tokens, &[], Sampling::GREEDY);
        assert_eq!(alone, chunked, "{name} in chunks of 64");
        let others = prompt(&engine, 2, PROMPT);
        let other = run(&mut engine, &others, &[], Sampling::GREEDY);
        assert_ne!(alone.logits, other.logits, "{name}: another prompt has other logits");
    }
}

#[test]
fn drafts_verified_together_have_the_bytes_of_single_steps() {
    for name in [TINY[1], TINY[2], TINY[4]] {
        let mut engine = load(name, options());
        let vocab = engine.config().vocab as usize;
        let tokens = prompt(&engine, 1, 20);
        let single = run(&mut engine, &tokens, &[], Sampling::GREEDY);
        // Drafts that are right up to each place, and wrong from there on.
        for right in 0..=3 {
            let seq = engine.open(Sampling::GREEDY).unwrap();
            engine.prefill(&[Feed { seq, tokens: &tokens }]).unwrap();
            let mut fed = single.tokens[..4].to_vec();
            for wrong in &mut fed[right + 1..] {
                *wrong = (*wrong + 1) % vocab as u32;
            }
            let chosen = engine.decode(&[Feed { seq, tokens: &fed }]).unwrap();
            assert_eq!(chosen[0], single.tokens[1..right + 2], "{name}, {right} right");
            let logits = engine.logits().unwrap();
            for (i, expected) in single.logits[1..right + 2].iter().enumerate() {
                assert_eq!(
                    &bits(&logits[i * vocab..][..vocab]),
                    expected,
                    "{name}, {right} right, token {i}"
                );
            }
            // What follows shows that the wrong ones left nothing behind.
            let next = &single.tokens[right + 1..right + 2];
            if right + 2 < single.tokens.len() {
                engine.decode(&[Feed { seq, tokens: next }]).unwrap();
                assert_eq!(
                    bits(&engine.logits().unwrap()),
                    single.logits[right + 2],
                    "{name} after {right} right"
                );
            }
            engine.close(seq);
        }
    }
}

#[test]
fn generation_gives_the_same_tokens_with_every_kind_of_draft() {
    for name in ["synthetic:tiny-qwen3", "synthetic:tiny-qwen3.6"] {
        let mut engine = load(name, options());
        let request = |salt: u32, count: usize, sampling: Sampling| Request {
            prompt: prompt(&engine, salt, count),
            max_new: 8,
            sampling,
            stop: false,
        };
        let drawn = Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            seed: 7,
        };
        let requests = [request(1, 9, Sampling::GREEDY), request(5, 21, drawn)];
        let mut seen = Vec::new();
        let plain = engine
            .generate(&requests, Draft::None, &mut |i, token| seen.push((i, token)))
            .unwrap();
        let of_second: Vec<u32> = seen.iter().filter(|s| s.0 == 1).map(|s| s.1).collect();
        assert_eq!(of_second, plain[1].tokens);
        let alone = engine.generate(&requests[1..], Draft::None, &mut |_, _| ()).unwrap();
        assert_eq!(alone[0].tokens, plain[1].tokens, "{name}: drawn alone and in a batch");
        let mut drafts = vec![Draft::Lookup(3)];
        if engine.config().mtp {
            drafts.push(Draft::Mtp(2));
        }
        for draft in drafts {
            let drafted = engine.generate(&requests, draft, &mut |_, _| ()).unwrap();
            for (plain, drafted) in plain.iter().zip(&drafted) {
                assert_eq!(plain.tokens, drafted.tokens, "{name} {draft:?}");
            }
            if let Draft::Mtp(_) = draft {
                assert!(drafted[0].drafted > 0, "{drafted:?}");
            }
        }
    }
}

#[test]
fn requests_that_cannot_be_are_refused_and_change_nothing() {
    let mut engine = load("synthetic:tiny-qwen3.6", options());
    let vocab = engine.config().vocab;
    let seq = engine.open(Sampling::GREEDY).unwrap();
    let tokens = prompt(&engine, 1, 20);
    let error = |result: Result<Vec<u32>, ModelError>| result.unwrap_err().to_string();
    let long = vec![1; 300];
    for (tokens, wanted) in [
        (&[][..], "0 tokens for sequence 0"),
        (
            &[1, 2, vocab][..],
            &format!("token 2 has the id {vocab}, and the vocabulary has {vocab} entries"),
        ),
        (&long[..], "sequence 0: 300 positions, and there is room for 256"),
    ] {
        let text = error(engine.prefill(&[Feed { seq, tokens }]));
        assert!(text.contains(wanted), "{text}");
    }
    let twice = [Feed { seq, tokens: &tokens }; 2];
    assert!(error(engine.prefill(&twice)).contains("is there twice"));
    let many = engine.decode(&[Feed { seq, tokens: &[1; 5] }]).unwrap_err().to_string();
    assert!(many.contains("5 tokens for sequence 0: from 1 to 4"), "{many}");
    assert!(
        engine.prefill_logits(seq, &tokens).is_err(),
        "not loaded for all logits"
    );
    for chunk in [0, 65, 256] {
        assert!(
            engine
                .set_chunk(chunk)
                .unwrap_err()
                .to_string()
                .contains(&format!("chunks of {chunk}"))
        );
    }
    let _others = [
        engine.open(Sampling::GREEDY).unwrap(),
        engine.open(Sampling::GREEDY).unwrap(),
    ];
    let full = engine.open(Sampling::GREEDY).unwrap_err().to_string();
    assert!(full.contains("3 sequences are open"), "{full}");
    // After all that the engine works, and the sequence is as it was.
    assert!(engine.tokens(seq).unwrap().is_empty());
    engine.prefill(&[Feed { seq, tokens: &tokens }]).unwrap();
    let logits = engine.logits().unwrap();
    engine.close(seq);
    assert!(engine.tokens(seq).unwrap_err().to_string().contains("not open"));
    let mut fresh = load("synthetic:tiny-qwen3.6", options());
    let seq = fresh.open(Sampling::GREEDY).unwrap();
    fresh.prefill(&[Feed { seq, tokens: &tokens }]).unwrap();
    assert_eq!(bits(&logits), bits(&fresh.logits().unwrap()));
}

#[test]
fn options_that_do_not_fit_a_model_are_refused() {
    let device = Device::simt_with(SimtOptions::default());
    let opened = host::model::open("synthetic:tiny-qwen3").unwrap();
    let refused = |options: Options| {
        let error = Engine::load(&device, opened.as_ref(), options).unwrap_err();
        error.to_string()
    };
    let with = options;
    for (options, wanted) in [
        (
            Options {
                context: 1 << 22,
                ..with()
            },
            "was made for",
        ),
        (Options { chunk: 100, ..with() }, "multiple of 64"),
        (Options { page: 48, ..with() }, "16, 32 or 64"),
        (Options { drafts: 20, ..with() }, "from 1 to 8"),
        (Options { max_seqs: 0, ..with() }, "number of sequences = 0"),
        (
            Options {
                cache_positions: Some(64),
                ..with()
            },
            "pages of the cache = 1",
        ),
    ] {
        let text = refused(options);
        assert!(text.contains(wanted), "{text}");
    }
}

/// One conversation of each prompt: a first prompt, two decoded tokens, a second prompt, a decoded token. All prompts of a turn are one call
/// where `together`, which fills steps up with sequences that are none. The logits that chose each sequence's last token, and all tokens.
fn conversations(engine: &mut Engine, first: &[Vec<u32>], second: &[Vec<u32>], together: bool) -> Vec<Run> {
    let vocab = engine.config().vocab as usize;
    let all: Vec<usize> = (0..first.len()).collect();
    let groups: Vec<&[usize]> = if together { vec![&all] } else { all.chunks(1).collect() };
    let mut runs = Vec::new();
    for group in groups {
        let seqs: Vec<SeqId> = group.iter().map(|_| engine.open(Sampling::GREEDY).unwrap()).collect();
        let mut tokens = vec![Vec::new(); group.len()];
        for (turn, steps) in [(first, 2), (second, 1)] {
            let feeds = group.iter().zip(&seqs).map(|(&i, &seq)| Feed { seq, tokens: &turn[i] });
            let mut last = engine.prefill(&feeds.collect::<Vec<_>>()).unwrap();
            for step in 0..=steps {
                tokens
                    .iter_mut()
                    .zip(&last)
                    .for_each(|(tokens, &token)| tokens.push(token));
                if step < steps {
                    let feeds = seqs
                        .iter()
                        .zip(last.chunks(1))
                        .map(|(&seq, tokens)| Feed { seq, tokens });
                    let chosen = engine.decode(&feeds.collect::<Vec<_>>()).unwrap();
                    last = chosen.iter().map(|chosen| chosen[0]).collect();
                }
            }
        }
        let logits = engine.logits().unwrap();
        for (tokens, row) in tokens.into_iter().zip(logits.chunks(vocab)) {
            let logits = vec![bits(row)];
            runs.push(Run { tokens, logits });
        }
        seqs.into_iter().for_each(|seq| engine.close(seq));
    }
    runs
}

#[test]
fn prompts_of_several_sequences_and_turns_in_one_call_have_the_bytes_of_prompts_alone() {
    // All mixers and experts.
    let name = TINY[4];
    // Three of five sequences: a step is filled up to four.
    let mut engine = load(
        name,
        Options {
            max_seqs: 5,
            ..options()
        },
    );
    let turn = |salt: u32, counts: [usize; 3]| -> Vec<Vec<u32>> {
        counts.iter().map(|&n| prompt(&engine, salt + n as u32, n)).collect()
    };
    // The second prompt has no room beside the first in a chunk of 128, the third has; in the other turn all have.
    let (first, second) = (turn(1, [70, 100, 20]), turn(9, [5, 65, 33]));
    let alone = conversations(&mut engine, &first, &second, false);
    let together = conversations(&mut engine, &first, &second, true);
    assert_eq!(alone, together, "{name} in one call");
    engine.set_chunk(64).unwrap();
    let chunked = conversations(&mut engine, &first, &second, true);
    assert_eq!(alone, chunked, "{name} in chunks of 64");
    assert_ne!(alone[0].logits, alone[1].logits, "{name}");
}
