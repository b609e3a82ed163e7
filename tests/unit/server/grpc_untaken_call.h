// A gRPC client that takes nothing.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"

namespace holdfast {

// A call whose client sends what it has to and then takes nothing: no more than some bytes of an
// answer leave the server.
class UntakenCall final {
 public:
  // `method` with its service: "Batches/ListFiles".
  UntakenCall(int port, const std::string& method, const google::protobuf::Message& request) {
    grpc::ChannelArguments narrow;
    narrow.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 5);
    narrow.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    stub_ = std::make_unique<grpc::GenericStub>(grpc::CreateCustomChannel(
        absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials(), narrow));
    context_.AddMetadata("x-api-key", "k1");
    stream_ = stub_->PrepareCall(&context_, "/holdfast.v1." + method, &queue_);
    stream_->StartCall(nullptr);
    Done();
    Send(request);
  }
  ~UntakenCall() {
    context_.TryCancel();
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }
  void Send(const google::protobuf::Message& message) {
    const std::string bytes = message.SerializeAsString();
    const grpc::Slice slice(bytes);
    stream_->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    Done();
  }
  void EndSending() {
    stream_->WritesDone(nullptr);
    Done();
  }
  // The server has told its end, of which the client lets the beginning in.
  void AwaitAnswer() {
    stream_->ReadInitialMetadata(nullptr);
    Done();
  }

 private:
  void Done() {
    void* tag = nullptr;
    bool ok = false;
    EXPECT_TRUE(queue_.Next(&tag, &ok) && ok);
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
};

}  // namespace holdfast
