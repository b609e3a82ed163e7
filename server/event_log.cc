#include "server/event_log.h"

#include "config/base/check.h"
#include "config/base/concat.h"

namespace holdfast {

void EventLog::Append(std::string_view sse) {
  constexpr std::string_view kEnd = "\n\n";
  while (!sse.empty()) {
    const size_t end = sse.find(kEnd);
    CHECK(end != sse.npos);
    events_.push_back(Concat("id: ", this->end(), "\n", sse.substr(0, end + kEnd.size())));
    bytes_ += BytesOf(events_.back());
    sse.remove_prefix(end + kEnd.size());
  }
}

int64_t EventLog::Read(int64_t first, size_t bytes_max, std::string& sse) const {
  CHECK(first >= begin_);
  const size_t before = sse.size();
  for (; first < end(); ++first) {
    const std::string& event = events_[static_cast<size_t>(first - begin_)];
    if (sse.size() > before && sse.size() - before + event.size() > bytes_max) break;
    sse += event;
  }
  return first;
}

void EventLog::DropOldest() {
  CHECK(!events_.empty());
  bytes_ -= BytesOf(events_.front());
  events_.pop_front();
  ++begin_;
}

}  // namespace holdfast
