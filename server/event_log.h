// The server-sent events of one stream, numbered from 0, so that a client whose connection broke
// can be given those that it has not seen. Forgets the oldest where it is told to.
//
//   begin()          end()
//   [ kept ........ ] next to be appended
//
// Thread: one at a time. Bound: its user's, by bytes().
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace holdfast {

class EventLog final {
 public:
  // `sse`: whole events, each with an empty line behind it and none inside. Each gets its number in
  // front, as the line "id: N".
  void Append(std::string_view sse);
  // Appends to `sse` the events from `first` on, of which there is none before begin(): one, and as
  // many more as `bytes_max` leaves room for. Returns the number behind the last of them.
  int64_t Read(int64_t first, size_t bytes_max, std::string& sse) const;
  void DropOldest();  // there is one

  int64_t begin() const { return begin_; }
  int64_t end() const { return begin_ + static_cast<int64_t>(events_.size()); }
  size_t bytes() const { return bytes_; }  // of what is kept, in memory

 private:
  static size_t BytesOf(const std::string& event) { return event.capacity() + sizeof(event); }

  std::deque<std::string> events_;
  int64_t begin_ = 0;
  size_t bytes_ = 0;
};

}  // namespace holdfast
