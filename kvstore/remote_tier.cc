#include "kvstore/remote_tier.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "kvstore/block_checksum.h"

namespace holdfast {
namespace {

constexpr size_t kBatchBlocks = 16;     // of one call: their values are in memory twice
constexpr size_t kBatchLookups = 1024;  // of one call

absl::Status Refusal(std::string_view error) {
  const std::string message = Concat("the remote tier's server refuses: ", error);
  return error.starts_with("OOM") ? absl::ResourceExhaustedError(message)
                                  : absl::UnavailableError(message);
}

void FailAll(std::span<TierTransfer> transfers, const absl::Status& status) {
  for (TierTransfer& transfer : transfers) transfer.status = status;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteTier>> RemoteTier::Create(const RemoteTierOptions& options,
                                                               const Clock& clock) {
  CHECK(options.block_bytes > 0 && options.connections_max > 0);
  ASSIGN_OR_RETURN(RemoteEndpoint endpoint, ParseRemoteEndpoint(options.endpoint));
  if (kRecordHeaderBytes + options.block_bytes > options.value_bytes_max) {
    return absl::InvalidArgumentError(
        Concat("a block of this model takes ", kRecordHeaderBytes + options.block_bytes,
               " bytes in the remote tier; a value may have ", options.value_bytes_max));
  }
  return std::unique_ptr<RemoteTier>(new RemoteTier(options, std::move(endpoint), clock));
}

RemoteTier::RemoteTier(const RemoteTierOptions& options, RemoteEndpoint endpoint,
                       const Clock& clock)
    : options_(options),
      endpoint_(std::move(endpoint)),
      breaker_(options.failures_max, options.rest, clock) {}

RemoteTierCounters RemoteTier::counters() const {
  MutexLock lock(&mutex_);
  return counters_;
}

std::string RemoteTier::KeyOf(const BlockDigest& digest) const {
  const absl::string_view bytes(reinterpret_cast<const char*>(digest.data()), digest.size());
  return Concat("holdfast:", kRecordVersion, ":", absl::BytesToHexString(bytes));
}

absl::StatusOr<std::unique_ptr<RemoteConnection>> RemoteTier::Connect() {
  ASSIGN_OR_RETURN(
      std::unique_ptr<RemoteConnection> connection,
      RemoteConnection::Connect(endpoint_, options_.connect_timeout, options_.call_timeout));
  if (options_.password.empty()) return connection;
  RemoteCommand auth = {"AUTH"};
  if (!options_.username.empty()) auth.push_back(options_.username);
  auth.push_back(options_.password);
  ASSIGN_OR_RETURN(const std::vector<RemoteReply> replies, connection->Call({&auth, 1}));
  if (const auto error = replies[0].error(); error.has_value()) return Refusal(*error);
  return connection;
}

absl::StatusOr<std::vector<RemoteReply>> RemoteTier::Call(std::span<const RemoteCommand> commands) {
  {
    MutexLock lock(&mutex_);
    if (busy_ == options_.connections_max) {
      ++counters_.calls_refused;
      return absl::UnavailableError("all connections to the remote tier's server are at work");
    }
    ++busy_;
  }
  absl::StatusOr<std::vector<RemoteReply>> replies =
      absl::UnavailableError("the remote tier's server has failed and is left alone for a while");
  const bool is_admitted = breaker_.TryEnter();
  if (is_admitted) {
    replies = CallAdmitted(commands);
    if (replies.ok()) {
      breaker_.Succeeded();
    } else {
      breaker_.Failed();
      replies = absl::UnavailableError(replies.status().message());
    }
  }
  MutexLock lock(&mutex_);
  --busy_;
  if (!is_admitted) {
    ++counters_.calls_refused;
  } else if (!replies.ok()) {
    ++counters_.calls_failed;
  }
  return replies;
}

// A connection that was idle may have been closed by the server meanwhile: that is no failure yet,
// and a new one is tried. Our commands may be done twice without harm. A slow server is not asked
// twice.
absl::StatusOr<std::vector<RemoteReply>> RemoteTier::CallAdmitted(
    std::span<const RemoteCommand> commands) {
  std::unique_ptr<RemoteConnection> connection;
  {
    MutexLock lock(&mutex_);
    if (!idle_.empty()) {
      connection = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  absl::StatusOr<std::vector<RemoteReply>> replies = absl::UnavailableError("");
  if (connection != nullptr) replies = connection->Call(commands);
  if (absl::IsUnavailable(replies.status())) {
    ASSIGN_OR_RETURN(connection, Connect());
    replies = connection->Call(commands);
  }
  if (replies.ok()) {
    MutexLock lock(&mutex_);
    idle_.push_back(std::move(connection));  // as many as were ever busy, so connections_max
  }
  return replies;
}

void RemoteTier::Put(std::span<TierTransfer> transfers) {
  std::vector<RemoteRecord> records;
  while (!transfers.empty()) {  // a call's worth of copies at a time
    const std::span<TierTransfer> batch = transfers.first(std::min(kBatchBlocks, transfers.size()));
    records.clear();
    for (const TierTransfer& transfer : batch) {
      records.push_back(Encode(*transfer.identity, transfer.bytes));
    }
    PutBatch(records);
    for (size_t i = 0; i < batch.size(); ++i) batch[i].status = std::move(records[i].status);
    transfers = transfers.subspan(batch.size());
  }
}

void RemoteTier::Put(std::span<RemoteRecord> records) {
  for (size_t first = 0; first < records.size(); first += kBatchBlocks) {
    PutBatch(records.subspan(first, std::min(kBatchBlocks, records.size() - first)));
  }
}

RemoteRecord RemoteTier::Encode(const BlockIdentity& identity,
                                std::span<const std::byte> bytes) const {
  CHECK(bytes.size() == options_.block_bytes);
  RemoteRecord record{.digest = identity.digest, .value = std::string(value_bytes(), '\0')};
  const std::span<std::byte> value = std::as_writable_bytes(std::span(record.value));
  RecordHeader header{
      .payload_bytes = options_.block_bytes, .layout = options_.layout, .identity = identity};
  header.payload_checksum = CopyWithChecksum(value.subspan(kRecordHeaderBytes), bytes);
  EncodeRecordHeader(header, value);
  return record;
}

void RemoteTier::PutBatch(std::span<RemoteRecord> records) {
  std::vector<RemoteCommand> commands;
  for (RemoteRecord& record : records) {
    RemoteCommand& command = commands.emplace_back();
    command = {"SET", KeyOf(record.digest)};
    command.push_back(std::move(record.value));
    if (options_.ttl > absl::ZeroDuration()) {
      command.push_back("PX");
      command.push_back(Concat(std::max<int64_t>(1, absl::ToInt64Milliseconds(options_.ttl))));
    }
  }
  const absl::StatusOr<std::vector<RemoteReply>> replies = Call(commands);
  for (size_t i = 0; i < records.size(); ++i) {
    if (!replies.ok()) {
      records[i].status = replies.status();
    } else {
      const auto error = (*replies)[i].error();
      records[i].status = error.has_value() ? Refusal(*error) : absl::OkStatus();
    }
  }
  MutexLock lock(&mutex_);
  for (const RemoteRecord& record : records) {
    ++(record.status.ok() ? counters_.blocks_put : counters_.puts_failed);
  }
}

void RemoteTier::Fetch(std::span<TierTransfer> transfers) {
  for (size_t first = 0; first < transfers.size(); first += kBatchBlocks) {
    FetchBatch(transfers.subspan(first, std::min(kBatchBlocks, transfers.size() - first)));
  }
}

void RemoteTier::FetchBatch(std::span<TierTransfer> transfers) {
  std::vector<RemoteCommand> commands;
  // One byte more than a value has: a longer one is seen, and costs no more memory than that.
  const std::string last = Concat(value_bytes());
  for (const TierTransfer& transfer : transfers) {
    CHECK(transfer.bytes.size() == options_.block_bytes);
    commands.push_back({"GETRANGE", KeyOf(transfer.identity->digest), "0", last});
  }
  const absl::StatusOr<std::vector<RemoteReply>> replies = Call(commands);
  if (!replies.ok()) {
    FailAll(transfers, replies.status());
  } else {
    for (size_t i = 0; i < transfers.size(); ++i) {
      transfers[i].status = Prove((*replies)[i], transfers[i]);
    }
  }
  MutexLock lock(&mutex_);
  for (const TierTransfer& transfer : transfers) {
    ++(transfer.status.ok()                ? counters_.blocks_fetched
       : absl::IsNotFound(transfer.status) ? counters_.blocks_absent
       : absl::IsDataLoss(transfer.status) ? counters_.fetches_unproven
                                           : counters_.fetches_failed);
  }
}

absl::Status RemoteTier::Prove(const RemoteReply& reply, TierTransfer& transfer) const {
  if (const auto error = reply.error(); error.has_value()) {
    // Something that is no string lies under the name: not ours, so not proven.
    if (error->starts_with("WRONGTYPE")) return absl::DataLossError("the remote value is no block");
    return Refusal(*error);
  }
  const std::optional<std::string_view> value = reply.text();
  if (!value.has_value())
    return absl::UnavailableError("the remote tier's server answers nonsense");
  if (value->empty()) return absl::NotFoundError("the remote tier has no such block");
  const std::span<const std::byte> bytes = std::as_bytes(std::span(*value));
  RecordHeader header;
  if (bytes.size() != value_bytes() ||
      DecodeRecordHeader(bytes, options_.layout, header) != RecordVerdict::kGood ||
      header.payload_bytes != options_.block_bytes ||
      header.identity.digest != transfer.identity->digest ||
      CopyWithChecksum(transfer.bytes, bytes.subspan(kRecordHeaderBytes)) !=
          header.payload_checksum) {
    return absl::DataLossError("the remote value is not proven to be the block asked for");
  }
  return absl::OkStatus();
}

absl::Status RemoteTier::Ping() {
  const RemoteCommand ping = {"PING"};
  ASSIGN_OR_RETURN(const std::vector<RemoteReply> replies, Call({&ping, 1}));
  const auto error = replies[0].error();
  return error.has_value() ? Refusal(*error) : absl::OkStatus();
}

absl::StatusOr<std::vector<bool>> RemoteTier::Contains(std::span<const BlockDigest> digests) {
  std::vector<bool> found;
  found.reserve(digests.size());
  while (!digests.empty()) {
    const size_t count = std::min(kBatchLookups, digests.size());
    std::vector<RemoteCommand> commands;
    commands.reserve(count);
    for (const BlockDigest& digest : digests.first(count)) {
      commands.push_back({"EXISTS", KeyOf(digest)});
    }
    ASSIGN_OR_RETURN(const std::vector<RemoteReply> replies, Call(commands));
    for (const RemoteReply& reply : replies) {
      if (const auto error = reply.error(); error.has_value()) return Refusal(*error);
      found.push_back(reply.integer() == 1);
    }
    digests = digests.subspan(count);
  }
  return found;
}

}  // namespace holdfast
