//! Compiling cannot be interrupted, so each grammar has a thread of its own: it is waited for up to a
//! bound and then left behind. At a bound on the ones that were left behind and still compile, for
//! each owner and in all, nothing new is begun.

use crate::{Code, Failure};
use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A stack that no chain of references within the bound on a source fills (some ten kilobytes a
/// link; pages that are not used cost nothing).
const STACK_BYTES: usize = 512 << 20;

/// As text_c.h has it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CompileLimits {
    pub wait_ms: u64,
    pub left_behind_per_owner: usize,
    pub left_behind: usize,
}

/// Thread: any.
pub struct CompileThreads {
    limits: CompileLimits,
    left_behind: Mutex<Vec<(u64, JoinHandle<()>)>>, // with its owner
}

impl CompileThreads {
    pub fn new(limits: CompileLimits) -> Self {
        CompileThreads { limits, left_behind: Mutex::default() }
    }

    pub fn run<T: Send + 'static>(
        &self,
        owner: u64,
        compile: impl FnOnce() -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.find_room(owner)?;
        let (done, result) = sync_channel(1);
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            let _ = done.send(compile()); // or nobody waits any more
        });
        let thread =
            thread.map_err(|error| Failure::new(Code::Internal, format!("no thread: {error}")))?;
        const STEP_MS: u64 = 50;
        // By steps, so that a process that was stopped for a while has not been slow.
        let mut left_ms = self.limits.wait_ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(STEP_MS);
            left_ms -= step_ms;
            match result.recv_timeout(Duration::from_millis(step_ms)) {
                Ok(compiled) => return compiled,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::invalid("the grammar library cannot make anything of it"))
                }
            }
        }
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner).push((owner, thread));
        Err(Failure::invalid(format!(
            "it takes longer than {} s to compile; make it simpler",
            self.wait_seconds()
        )))
    }

    /// Callers that wait at the same time may all find it, and all leave theirs behind: so there
    /// may be as many more as there are callers at a time.
    fn find_room(&self, owner: u64) -> Result<(), Failure> {
        let mut left_behind = self.left_behind.lock().unwrap_or_else(PoisonError::into_inner);
        left_behind.retain(|(_, thread)| !thread.is_finished());
        let of_owner = left_behind.iter().filter(|(whose, _)| *whose == owner).count();
        let is_full = |count: usize, max: usize, whose: &str| {
            Failure::new(
                Code::ResourceExhausted,
                format!(
                    "{count} grammars{whose} that took longer than {} s are still being compiled, \
                     and at {max} no other is begun; try again later",
                    self.wait_seconds()
                ),
            )
        };
        let limits = &self.limits;
        if of_owner >= limits.left_behind_per_owner {
            return Err(is_full(of_owner, limits.left_behind_per_owner, " of yours"));
        }
        if left_behind.len() >= limits.left_behind {
            return Err(is_full(left_behind.len(), limits.left_behind, ""));
        }
        Ok(())
    }

    fn wait_seconds(&self) -> f64 {
        Duration::from_millis(self.limits.wait_ms).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{channel, Sender};

    const ANN: u64 = 1;
    const BOB: u64 = 2;
    const CARL: u64 = 3;

    /// Nothing is waited for; two of an owner and three in all may be left behind.
    fn impatient() -> CompileThreads {
        CompileThreads::new(CompileLimits { wait_ms: 0, left_behind_per_owner: 2, left_behind: 3 })
    }

    /// Begins one that compiles until the sender is dropped.
    fn begin(threads: &CompileThreads, owner: u64) -> Result<Sender<()>, Failure> {
        let (sender, ends) = channel::<()>();
        let failure = threads
            .run(owner, move || {
                let _ = ends.recv();
                Ok(())
            })
            .expect_err("nobody waits for it");
        if failure.code == Code::InvalidArgument {
            assert!(failure.message.contains("longer than 0 s"), "{}", failure.message);
            return Ok(sender);
        }
        Err(failure)
    }

    fn assert_is_full(begun: Result<Sender<()>, Failure>, why: &str) {
        let failure = begun.expect_err("there was room");
        assert_eq!(failure.code, Code::ResourceExhausted);
        assert!(failure.message.contains(why), "{}", failure.message);
    }

    #[test]
    fn one_that_ends_in_time_is_returned_and_none_is_left_behind() {
        let limits = CompileLimits { wait_ms: 1 << 40, left_behind_per_owner: 1, left_behind: 1 };
        let threads = CompileThreads::new(limits);
        for i in 0..3 {
            assert_eq!(threads.run(ANN, move || Ok(i)).unwrap(), i);
        }
        let failure = threads.run(ANN, || -> Result<(), Failure> { panic!() }).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument);
        assert_eq!(threads.run(ANN, || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn a_wait_that_is_no_number_of_whole_steps_is_waited() {
        let limits = CompileLimits { wait_ms: 30, left_behind_per_owner: 1, left_behind: 1 };
        let begun = std::time::Instant::now();
        let (_sender, ends) = channel::<()>();
        let run = CompileThreads::new(limits).run(ANN, move || {
            let _ = ends.recv();
            Ok(())
        });
        assert!(run.is_err() && begun.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn an_owner_with_too_many_left_behind_is_refused_and_nobody_else() {
        let threads = impatient();
        let _anns = [begin(&threads, ANN).unwrap(), begin(&threads, ANN).unwrap()];
        assert_is_full(begin(&threads, ANN), "2 grammars of yours");
        let _bobs = begin(&threads, BOB).unwrap();
        assert_is_full(begin(&threads, CARL), "3 grammars that took longer");
    }

    #[test]
    fn those_left_behind_make_room_when_they_end() {
        let threads = impatient();
        let ends_first = begin(&threads, ANN).unwrap();
        let _ends_last = begin(&threads, ANN).unwrap();
        assert_is_full(begin(&threads, ANN), "2 grammars of yours");
        drop(ends_first);
        let _begun = loop {
            match begin(&threads, ANN) {
                Ok(begun) => break begun,
                Err(_) => std::thread::yield_now(), // it is about to end
            }
        };
        assert_is_full(begin(&threads, ANN), "2 grammars of yours");
    }
}
