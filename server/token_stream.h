// One request's output on its way from a text worker to the front end that serves the client.
//
//   StreamWriter::Push --> [ events, bounded ] --> TokenStream::TryNext
//                                |
//   deltas of one choice that still wait are merged into one event; after kStreamEventsMax merged
//   deltas the reader counts as too slow: its request is cancelled and the stream ends.
//
// Every stream ends with exactly one GenerationDone, whoever goes first: what the writer says, or
// "too slow", or kUnavailable if the writer is dropped without a word.
//
// Thread: the writer is used by one thread, the reader by one at a time; one mutex between them,
// held for a move. No callback runs under it.
// Bound: 2 + num_choices events and kStreamEventsMax merged deltas (so as many tokens and their
// text) wait for one reader.
#pragma once

#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/generation.h"

namespace holdfast {

class StreamState;  // what both ends share

// The text worker's end.
class StreamWriter final {
 public:
  explicit StreamWriter(std::shared_ptr<StreamState> state);
  ~StreamWriter();
  StreamWriter(StreamWriter&&) noexcept;
  StreamWriter& operator=(StreamWriter&&) noexcept;

  // After GenerationDone, or once the reader is gone, everything is dropped. False: nobody reads
  // any more.
  bool Push(GenerationEvent event);

 private:
  std::shared_ptr<StreamState> state_;
};

// The front end's end.
class TokenStream final : public GenerationStream {
 public:
  explicit TokenStream(std::shared_ptr<StreamState> state);
  ~TokenStream() override;  // as Cancel, and nothing comes any more

  std::optional<GenerationEvent> TryNext() override;
  void NotifyReady(absl::AnyInvocable<void()> ready) override;
  void Cancel() override;

 private:
  std::shared_ptr<StreamState> state_;
};

// Both ends of a new stream. `on_cancel` is called at most once, from any thread: the reader
// cancelled, was dropped before the end, or was too slow. It must not block.
struct StreamEnds {
  std::shared_ptr<TokenStream> reader;
  StreamWriter writer;
};
StreamEnds MakeTokenStream(absl::AnyInvocable<void()> on_cancel);

}  // namespace holdfast
