// Blocks shared between daemons over Valkey or Redis. A tier without slots: a block's name there is
// its digest, so that every daemon with the same model, layout and scope finds it, and no other.
//
//   holdfast:<record version>:<digest in hex>  ──►  header (block_record.h) │ payload
//
// What comes back is believed only if the header is whole, is of this layout and of the digest that
// was asked for, and the payload's checksum is right: as from a file. Who may write to the server
// is trusted not to forge that on purpose, and what goes over the wire is not encrypted: a private
// network, or a socket on this machine.
//
// The daemon works on without it: a call ends within its time-outs, and after some failures in a
// row the server is left alone for a while (circuit_breaker.h), then tried by one call. What is
// evicted there is a miss here.
//
// Thread: any; one connection for each call at work. SIGPIPE must be ignored, as the daemon does.
// Bounds: connections, time-outs, blocks of a call, bytes of a value.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "config/base/clock.h"
#include "config/base/mutex.h"
#include "kvstore/block_record.h"
#include "kvstore/circuit_breaker.h"
#include "kvstore/remote_connection.h"
#include "kvstore/tier.h"

namespace holdfast {

struct RemoteTierOptions {
  std::string endpoint;            // see ParseRemoteEndpoint
  std::string username, password;  // empty password: no AUTH; empty username: the default user
  size_t block_bytes = 0;
  LayoutDigest layout{};
  absl::Duration ttl = absl::ZeroDuration();  // of what is put; zero: until the server evicts it
  absl::Duration connect_timeout = absl::Milliseconds(500);
  absl::Duration call_timeout = absl::Seconds(2);
  int32_t connections_max = 4;
  int32_t failures_max = 3;  // in a row, then the server is left alone
  absl::Duration rest = absl::Seconds(10);
  size_t value_bytes_max = 64 << 20;
};

// A block as it lies on the server: its name there, and header and payload.
struct RemoteRecord {
  BlockDigest digest{};
  std::string value;
  absl::Status status;  // of its Put
};

struct RemoteTierCounters {
  uint64_t blocks_put = 0, puts_failed = 0;
  uint64_t blocks_fetched = 0, blocks_absent = 0, fetches_unproven = 0, fetches_failed = 0;
  uint64_t calls_failed = 0;   // broken, too slow, unreachable
  uint64_t calls_refused = 0;  // by the breaker, or because all connections are at work
};

class RemoteTier final {
 public:
  // Does not connect: the server may come later. kInvalidArgument: the endpoint names none, or a
  // block is larger than a value may be.
  static absl::StatusOr<std::unique_ptr<RemoteTier>> Create(const RemoteTierOptions& options,
                                                            const Clock& clock);

  // As Tier::Put and Fetch (slots are not looked at). kUnavailable: the server is away or too slow;
  // kResourceExhausted: it takes no more. Fetch: kNotFound: it has no such block; kDataLoss: what
  // it has is not proven to be the block.
  void Put(std::span<TierTransfer> transfers);
  // Put in two halves, so that the block may be lent again before the server has answered. The
  // values are moved out.
  RemoteRecord Encode(const BlockIdentity& identity, std::span<const std::byte> bytes) const;
  void Put(std::span<RemoteRecord> records);
  void Fetch(std::span<TierTransfer> transfers);

  // For each digest, whether the server has something under its name.
  absl::StatusOr<std::vector<bool>> Contains(std::span<const BlockDigest> digests);

  absl::Status Ping();  // whether the server is there and takes us

  // A call would be tried now.
  bool MayBeAsked() const { return breaker_.MayEnter(); }
  CircuitBreaker::State state() const { return breaker_.state(); }
  RemoteTierCounters counters() const;

  std::string KeyOf(const BlockDigest& digest) const;

 private:
  RemoteTier(const RemoteTierOptions& options, RemoteEndpoint endpoint, const Clock& clock);

  size_t value_bytes() const { return kRecordHeaderBytes + options_.block_bytes; }
  absl::StatusOr<std::vector<RemoteReply>> Call(std::span<const RemoteCommand> commands);
  absl::StatusOr<std::vector<RemoteReply>> CallAdmitted(std::span<const RemoteCommand> commands);
  absl::StatusOr<std::unique_ptr<RemoteConnection>> Connect();
  void PutBatch(std::span<RemoteRecord> records);
  void FetchBatch(std::span<TierTransfer> transfers);
  absl::Status Prove(const RemoteReply& reply, TierTransfer& transfer) const;

  const RemoteTierOptions options_;
  const RemoteEndpoint endpoint_;
  CircuitBreaker breaker_;
  mutable Mutex mutex_;
  std::vector<std::unique_ptr<RemoteConnection>> idle_ ABSL_GUARDED_BY(mutex_);
  int32_t busy_ ABSL_GUARDED_BY(mutex_) = 0;
  RemoteTierCounters counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace holdfast
