// A collector of traces on a port of its own, for tests of what sends them.
#pragma once

#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace holdfast {

// Takes batches one by one on a port of its own, and answers as it is told.
class TraceCollector final {
 public:
  using Request = boost::beast::http::request<boost::beast::http::string_body>;
  static constexpr absl::Duration kPatience = absl::Seconds(20);  // a wait so long has failed

  TraceCollector() : thread_([this] { Serve(); }) {}
  ~TraceCollector() {
    ::shutdown(acceptor_.native_handle(), SHUT_RDWR);
    thread_.join();
  }

  std::string address() const {
    return absl::StrCat("127.0.0.1:", acceptor_.local_endpoint().port());
  }
  void Answer(int status) {
    absl::MutexLock lock(&mutex_);
    status_ = status;
  }
  void Hold() { Answer(0); }  // until told what to answer
  void FallSilent() { Answer(-1); }
  bool WaitForRequests(size_t count) const {
    const auto has_come = [this, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return requests_.size() >= count;
    };
    absl::MutexLock lock(&mutex_);
    return mutex_.AwaitWithTimeout(absl::Condition(&has_come), kPatience);
  }
  std::vector<Request> requests() const {
    absl::MutexLock lock(&mutex_);
    return requests_;
  }
  std::vector<nlohmann::json> spans() const {
    std::vector<nlohmann::json> spans;
    for (const Request& request : requests()) {
      const auto body = nlohmann::json::parse(request.body());
      for (const auto& span : body["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
        spans.push_back(span);
      }
    }
    return spans;
  }

 private:
  void Serve() {
    namespace http = boost::beast::http;
    using boost::asio::ip::tcp;
    std::vector<tcp::socket> unanswered;
    while (true) {
      boost::system::error_code error;
      tcp::socket socket = acceptor_.accept(error);
      if (error) return;
      boost::beast::flat_buffer buffer;
      http::request_parser<http::string_body> parser;
      parser.body_limit(boost::none);
      http::read(socket, buffer, parser, error);
      if (error) continue;
      const int status = Take(parser.release());
      if (status < 0) {
        unanswered.push_back(std::move(socket));
      } else {
        http::write(socket, http::response<http::empty_body>(http::status(status), 11), error);
      }
    }
  }
  int Take(Request request) {
    const auto is_told = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return status_ != 0; };
    absl::MutexLock lock(&mutex_);
    requests_.push_back(std::move(request));
    mutex_.AwaitWithTimeout(absl::Condition(&is_told), kPatience);
    return status_;
  }

  mutable absl::Mutex mutex_;
  int status_ ABSL_GUARDED_BY(mutex_) = 200;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_{io_, {boost::asio::ip::address_v4::loopback(), 0}};
  std::thread thread_;
};

}  // namespace holdfast
