#include "server/kv_event_publisher.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "config/base/check.h"
#include "config/base/concat.h"
#include "config/base/status_macros.h"
#include "server/kv_event_codec.h"
#include "server/zmq_socket.h"

namespace holdfast {
namespace {

constexpr int kLingerMs = 1000;           // at the end, for what subscribers have not taken
constexpr int kRetryMs = 10;              // while an asker takes no more
constexpr int kReplayBatchesAtOnce = 64;  // of one answer, before what is new has its turn
constexpr int kQuestionsAtOnce = 64;
constexpr int64_t kQuestionBytesMax = 1024;  // who sends more is disconnected
constexpr uint64_t kEnd = ~uint64_t{0};

std::array<uint8_t, 8> BigEndian(uint64_t number) {
  std::array<uint8_t, 8> bytes{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(number >> (8 * (bytes.size() - 1 - i)));
  }
  return bytes;
}

uint64_t FromBigEndian(std::span<const uint8_t> bytes) {
  uint64_t number = 0;
  for (const uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

absl::Status Named(std::string_view setting, const absl::Status& status) {
  return absl::Status(status.code(), AbslView(Concat(setting, ": ", Concat(status.message()))));
}

}  // namespace

class KvEventPublisher::Thread final {
 public:
  Thread(KvEventOptions options, KvEventRing& ring, MetricsRegistry& registry, const Clock& clock)
      : options_(std::move(options)),
        ring_(ring),
        clock_(clock),
        published_(registry.AddCounter("holdfast_server_kv_events_published_total",
                                       "Blocks told of as stored or removed, and clearings.")),
        batches_(registry.AddCounter("holdfast_server_kv_event_batches_total",
                                     "Messages of KV events, to all subscribers together.")),
        dropped_(registry.AddCounter("holdfast_server_kv_events_dropped_total",
                                     "KV events that found no room on their way to the publisher; "
                                     "everything is told anew then.")),
        restarts_(registry.AddCounter("holdfast_server_kv_event_restarts_total",
                                      "Times that everything was told (anew): one at the start.")),
        missed_(registry.AddCounter("holdfast_server_kv_event_batches_missed_total",
                                    "Messages that a subscriber or more was too slow for.")),
        replays_(registry.AddCounter("holdfast_server_kv_event_replays_total",
                                     "Questions for messages that had been sent.")) {}

  ~Thread() {
    if (!thread_.joinable()) return;
    stopping_.store(true);
    ring_.Interrupt();
    thread_.join();
  }

  absl::Status Start() {
    context_.reset(zmq_ctx_new());
    if (!context_) return absl::UnavailableError("kv.events: no ZeroMQ context");
    RETURN_IF_ERROR(Bind(publisher_, ZMQ_PUB, "kv.events.endpoint", options_.endpoint));
    if (!options_.replay_endpoint.empty()) {
      RETURN_IF_ERROR(
          Bind(replayer_, ZMQ_ROUTER, "kv.events.replay_endpoint", options_.replay_endpoint));
      replayer_.Set(ZMQ_ROUTER_MANDATORY, 1);  // full is an answer
    }
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

  const std::string& endpoint() const { return publisher_.endpoint(); }
  const std::string& replay_endpoint() const { return replayer_.endpoint(); }

 private:
  struct Batch {
    uint64_t number = 0;
    ZmqMessage payload;
  };
  struct Replay {
    ZmqMessage peer;
    uint64_t next = 0;  // the number to be sent, if it is kept
    absl::Time since;   // it took something
  };

  absl::Status Bind(ZmqSocket& socket, int type, std::string_view setting, std::string endpoint) {
    constexpr std::string_view kLocalhost = "tcp://localhost:";  // ZeroMQ knows no such device
    if (endpoint.starts_with(kLocalhost)) {
      endpoint = Concat("tcp://127.0.0.1:", endpoint.substr(kLocalhost.size()));
    }
    if (absl::Status status = socket.Open(context_, type); !status.ok()) {
      return Named(setting, status);
    }
    socket.Set(ZMQ_LINGER, kLingerMs);
    socket.Set(ZMQ_SNDHWM, kSubscriberBatchesMax);
    socket.Set(ZMQ_MAXMSGSIZE, kQuestionBytesMax);
    if (endpoint.find('[') != std::string::npos) socket.Set(ZMQ_IPV6, 1);
    if (absl::Status status = socket.Bind(endpoint); !status.ok()) return Named(setting, status);
    return absl::OkStatus();
  }

  void Run() noexcept {
    while (true) {
      // Read before the ring: what was pushed before the wish to stop is sent.
      const bool stopping = stopping_.load();
      const bool had_news = Publish();
      if (stopping && ring_.IsEmpty()) return;
      const bool has_more = Answer();
      if (!had_news && !has_more) Sleep();
    }
  }

  // One batch of what is there. False: there is nothing.
  bool Publish() {
    const std::span<const KvEvent> events(events_.data(), ring_.Take(events_));
    AddSince(dropped_, ring_.num_lost(), last_dropped_);
    AddSince(restarts_, ring_.num_restarts(), last_restarts_);
    if (events.empty()) return false;
    Batch batch{.number = next_number_++,
                .payload = ZmqMessage(EncodeKvEvents(events, clock_.Now()))};
    // Whether somebody is too slow shows only where that keeps the message from all.
    publisher_.Set(ZMQ_XPUB_NODROP, 1);
    if (!publisher_.Send(ZmqMessage(options_.topic), true)) {
      missed_.Add();
      publisher_.Set(ZMQ_XPUB_NODROP, 0);
      CHECK(publisher_.Send(ZmqMessage(options_.topic), true));
    }
    publisher_.Set(ZMQ_XPUB_NODROP, 0);
    CHECK(publisher_.Send(ZmqMessage(BigEndian(batch.number)), true));
    CHECK(publisher_.Send(batch.payload.Share(), false));
    published_.Add(static_cast<double>(events.size()));
    batches_.Add();
    Keep(std::move(batch));
    return true;
  }

  static void AddSince(Counter& counter, uint64_t now, uint64_t& last) {
    if (now != last) counter.Add(static_cast<double>(now - last));
    last = now;
  }

  void Keep(Batch batch) {
    if (replayer_.get() == nullptr) return;
    kept_bytes_ += batch.payload.bytes().size();
    kept_.push_back(std::move(batch));
    while (kept_bytes_ > options_.replay_bytes) {
      kept_bytes_ -= kept_.front().payload.bytes().size();
      kept_.pop_front();
    }
  }

  // True: there is more that can be sent at once.
  bool Answer() {
    if (replayer_.get() == nullptr) return false;
    TakeQuestions();
    bool has_more = false;
    std::erase_if(replays_under_way_, [&](Replay& replay) {
      const Progress progress = Continue(replay);
      has_more |= progress == Progress::kMore;
      return progress == Progress::kOver;
    });
    return has_more;
  }

  void TakeQuestions() {
    ZmqMessage part;
    bool more = false;
    for (int i = 0; i < kQuestionsAtOnce && replays_under_way_.size() < kReplaysMax; ++i) {
      if (!replayer_.Receive(part, more)) return;
      Replay replay{.peer = std::move(part), .since = SteadyNow()};
      int num_parts = 1;
      bool has_number = false;
      for (part = ZmqMessage(); more && replayer_.Receive(part, more); ++num_parts) {
        has_number = num_parts == 2 && !more && part.bytes().size() == 8;
        if (has_number) replay.next = FromBigEndian(part.bytes());
      }
      if (!has_number) continue;
      replays_.Add();
      replays_under_way_.push_back(std::move(replay));
    }
  }

  enum class Progress : uint8_t { kMore, kFull, kOver };
  Progress Continue(Replay& replay) {
    for (int i = 0; i < kReplayBatchesAtOnce; ++i) {
      const auto batch =
          std::lower_bound(kept_.begin(), kept_.end(), replay.next,
                           [](const Batch& kept, uint64_t next) { return kept.number < next; });
      const bool is_end = batch == kept_.end();
      if (!replayer_.Send(replay.peer.Share(), true)) {
        const bool is_full = zmq_errno() == EAGAIN;
        const bool waits = is_full && SteadyNow() - replay.since < kReplayPatience;
        return waits ? Progress::kFull : Progress::kOver;
      }
      const uint64_t number = is_end ? kEnd : batch->number;
      const bool sent =
          replayer_.Send(ZmqMessage(), true) &&
          replayer_.Send(ZmqMessage(is_end ? std::string_view() : options_.topic), true) &&
          replayer_.Send(ZmqMessage(BigEndian(number)), true) &&
          replayer_.Send(is_end ? ZmqMessage() : batch->payload.Share(), false);
      if (!sent || is_end) return Progress::kOver;
      replay.next = number + 1;
      replay.since = SteadyNow();
    }
    return Progress::kMore;
  }

  void Sleep() {
    if (!ring_.PrepareToSleep()) return;
    // Nothing comes in from subscribers, but asking has the socket let those go who have left.
    std::array<zmq_pollitem_t, 3> items{
        zmq_pollitem_t{.socket = nullptr, .fd = ring_.wake_fd(), .events = ZMQ_POLLIN},
        zmq_pollitem_t{.socket = publisher_.get(), .events = ZMQ_POLLIN},
        zmq_pollitem_t{.socket = replayer_.get(), .events = ZMQ_POLLIN}};
    // No more questions are read than answered at a time.
    const bool is_full = replays_under_way_.size() >= kReplaysMax;
    const int num_items = replayer_.get() == nullptr || is_full ? 2 : 3;
    const int polled =
        zmq_poll(items.data(), num_items, replays_under_way_.empty() ? -1 : kRetryMs);
    CHECK(polled >= 0 || zmq_errno() == EINTR);
    ring_.EndSleep();
  }

  const KvEventOptions options_;
  KvEventRing& ring_;
  const Clock& clock_;
  Counter published_, batches_, dropped_, restarts_, missed_, replays_;
  ZmqContext context_;
  ZmqSocket publisher_, replayer_;  // the latter may not be there
  std::atomic<bool> stopping_{false};

  // Of the thread.
  std::array<KvEvent, kBatchEventsMax> events_{};
  uint64_t next_number_ = 0;
  uint64_t last_dropped_ = 0, last_restarts_ = 0;
  std::deque<Batch> kept_;
  size_t kept_bytes_ = 0;
  std::vector<Replay> replays_under_way_;

  std::thread thread_;
};

KvEventPublisher::KvEventPublisher(std::unique_ptr<Thread> thread) : thread_(std::move(thread)) {}
KvEventPublisher::~KvEventPublisher() = default;

absl::StatusOr<std::unique_ptr<KvEventPublisher>> KvEventPublisher::Create(
    KvEventOptions options, KvEventRing& ring, MetricsRegistry& registry, const Clock& clock) {
  auto thread = std::make_unique<Thread>(std::move(options), ring, registry, clock);
  RETURN_IF_ERROR(thread->Start());
  return std::unique_ptr<KvEventPublisher>(new KvEventPublisher(std::move(thread)));
}

const std::string& KvEventPublisher::endpoint() const { return thread_->endpoint(); }
const std::string& KvEventPublisher::replay_endpoint() const { return thread_->replay_endpoint(); }

}  // namespace holdfast
