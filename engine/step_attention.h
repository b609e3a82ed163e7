// Attention of all rows of a step, layer by layer: how it is cut into tasks for the workers.
//
//   tile     rows of one sequence, at most 16, which share one reading of the keys
//   task     a KV head's queries of a tile over its keys; by how much there is to do:
//     cut      a long context of one row, in a step of few rows: runs of its splits of 256 keys, as
//              many as feed the workers, each split for itself; then merged in order
//     sharing  rows of several sequences whose tables begin with the same blocks (a system prompt,
//              choices of one request, agents with one history): their common whole splits are
//              read once for all of them, 16 rows at a time; then each row's task goes on alone
//              from that result
//
//   blocks of A   [ s s s s | a a ]      s: read once for A, B and C
//             B   [ s s s s | b ]
//             C   [ s s s s | c c c ]
//
// Splits are always merged one by one in ascending order, so no bit tells how a step was cut or
// with whom a row shared (promise 1).
//
// Limits of sharing: one row each (decodes, and in the last layer ends of prompts), KV on the
// device, no sliding window in the model, and the rows that begin with one block share what all of
// them have in common.
//
// Thread: the pool's caller. Memory: taken at Create; a step allocates nothing.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "config/base/page_buffer.h"
#include "engine/partial_attention.h"
#include "engine/worker_pool.h"
#include "kernels/kernel_table.h"
#include "kvstore/kv_layout.h"

namespace holdfast {

KvElement ElementOf(KvDtype dtype);

// Of KvPart::arena.
inline constexpr int32_t kDeviceArena = 0, kHostArena = 1;

class StepAttention final {
 public:
  struct Options {
    int32_t num_heads = 0;
    int32_t context_tokens = 0;  // most of a sequence
    int32_t rows_max = 0;        // of a step
    bool has_window = false;     // some layer's rows see their last keys alone
    KvLayout kv_layout;
    // Of blocks that lie in two arenas, as in TransformerOptions.
    int32_t num_device_blocks = 0;
    KvArena host_kv;
  };

  // Rows of one sequence from row_begin of the step on. What is pointed to lives through the step.
  struct Rows {
    int32_t row_begin = 0;
    int32_t num_rows = 0;
    int32_t first_position = 0;
    const int32_t* blocks = nullptr;  // of the sequence, from its first on
    std::span<const KvPart> parts;    // empty: all blocks are the device's
    const bool* failed = nullptr;     // its KV will not come: out is 0; nullptr: it is there
  };

  // q, k and v of the step's rows; k and v have been written to their blocks.
  struct Layer {
    int32_t index = 0;
    int32_t window = 0;  // 0: none
    const std::byte* kv_arena = nullptr;
    const float* q = nullptr;  // row r, head h at q + r * q_stride + h * head_dim
    int64_t q_stride = 0;
    float* out = nullptr;  // [rows][num_heads * head_dim]
  };

  static absl::StatusOr<std::unique_ptr<StepAttention>> Create(const Options& options,
                                                               const KernelTable& kernels,
                                                               WorkerPool& pool);

  void Begin();  // a step, or its last layer, which computes fewer rows
  void Add(const Rows& rows);
  void Cut();  // after the last Add
  void Run(const Layer& layer);

 private:
  static constexpr int32_t kNotCut = -1;
  struct Tile {
    Rows rows;
    int32_t num_splits = 0;
    int32_t shared_splits = 0;        // its first ones, which it shares with others
    int32_t split_results = kNotCut;  // into split_out_ and split_lse_
  };
  struct Task {
    int32_t tile;
    int32_t kv_head;
    int32_t split_begin, split_end;
  };
  // The first splits of tiles sharers_[begin, begin + count).
  struct SharedTask {
    int32_t begin, count;
    int32_t kv_head;
    int32_t num_splits;
  };

  StepAttention(const Options& options, const KernelTable& kernels, WorkerPool& pool);
  absl::Status TakeMemory();

  void FindSharers();
  void ListShared(int32_t begin, int32_t end);  // sharers_ whose first blocks are one
  void ListTasks();

  AttentionTile TileOf(const Layer& layer, const Rows& rows, int32_t kv_head, int32_t worker) const;
  void RunTask(const Layer& layer, const Task& task, int32_t worker);
  void RunSplits(const AttentionTile& tile, const Task& task);
  void RunShared(const Layer& layer, const SharedTask& task, int32_t worker);
  void MergeSplits(const Layer& layer, const Tile& tile);

  const Options options_;
  const KernelTable& kernels_;
  WorkerPool& pool_;
  const int32_t head_dim_, num_kv_heads_, group_;  // group: query heads of a KV head
  const int64_t width_;                            // num_heads * head_dim

  PageBuffer memory_;
  size_t workspace_floats_ = 0;
  float* workspace_ = nullptr;          // [workers][workspace_floats_], of the kernels
  float* gathered_ = nullptr;           // [workers][2][16][group * head_dim]: q and out of sharers
  NaturalLse* gathered_lse_ = nullptr;  // [workers][16][group]
  NaturalLse* lse_ = nullptr;           // [rows][num_heads], of sharers so far
  // Of cut tiles, split by split: [split][width] and [split][num_heads].
  float* split_out_ = nullptr;
  NaturalLse* split_lse_ = nullptr;
  int32_t split_results_max_ = 0;

  // The step at work; capacity is taken at Create.
  std::vector<Tile> tiles_;
  std::vector<int32_t> sharers_;  // tiles, those with the same first block side by side
  std::vector<SharedTask> shared_tasks_;
  std::vector<Task> tasks_;
  std::vector<int32_t> cut_tiles_;
};

}  // namespace holdfast
