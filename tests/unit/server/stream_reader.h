// Reads a GenerationStream to its end on the test's own thread.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/synchronization/notification.h"
#include "server/generation.h"

namespace holdfast {

inline GenerationEvent NextEvent(GenerationStream& stream) {
  for (;;) {
    if (std::optional<GenerationEvent> event = stream.TryNext()) return *std::move(event);
    // Shared: the stream may keep what it was asked until it goes.
    auto ready = std::make_shared<absl::Notification>();
    stream.NotifyReady([ready] { ready->Notify(); });
    ready->WaitForNotification();
  }
}

struct ReadChoice {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<TokenTextWithTop> logprobs;
  std::optional<FinishReason> finish;
  std::string stop_string;
};

struct ReadStream {
  std::optional<PromptInfo> prompt;
  std::map<int32_t, ReadChoice> choices;
  GenerationDone done;
};

inline void AddDelta(ChoiceDelta delta, std::map<int32_t, ReadChoice>& choices) {
  ReadChoice& choice = choices[delta.choice];
  choice.text += delta.text;
  choice.tokens.insert(choice.tokens.end(), delta.tokens.begin(), delta.tokens.end());
  for (auto& token : delta.logprobs) choice.logprobs.push_back(std::move(token));
  if (delta.finish.has_value()) {
    choice.finish = delta.finish;
    choice.stop_string = delta.stop_string;
  }
}

inline ReadStream ReadToEnd(GenerationStream& stream) {
  ReadStream read;
  for (;;) {
    GenerationEvent event = NextEvent(stream);
    if (auto* done = std::get_if<GenerationDone>(&event)) {
      read.done = std::move(*done);
      return read;
    }
    if (auto* prompt = std::get_if<PromptInfo>(&event)) {
      read.prompt = std::move(*prompt);
    } else {
      AddDelta(std::get<ChoiceDelta>(std::move(event)), read.choices);
    }
  }
}

}  // namespace holdfast
