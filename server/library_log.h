// What gRPC and Protobuf have to say, as events of our log: they write to standard error in a form
// of their own, which no reader of JSON lines expects. Their last words before an abort go to
// standard error as well, since the log's thread may not get to write them. (Abseil's few lines of
// this kind have no public hook in Debian 12's release; spdlog, OpenSSL and yaml-cpp say nothing.)
//
// Thread: made before any thread that calls those libraries (Protobuf's handler has no lock); they
// then log from any.
#pragma once

#include "server/log.h"

namespace holdfast {

// One at a time. Once it is gone, their lines go to standard error, whole.
class LibraryLog final {
 public:
  explicit LibraryLog(Log& log);  // must outlive this
  ~LibraryLog();
  LibraryLog(const LibraryLog&) = delete;
};

}  // namespace holdfast
