// The whole of one instruction path, after its lanes_<path>.inl: included by kernels_<path>.cc.
#include "kernels/lanes.inl"
//
#include "kernels/attention_products.inl"
//
#include "kernels/attention.inl"
#include "kernels/bf16_matmul.inl"
#include "kernels/float_matmul.inl"
#include "kernels/float_rows.inl"
#include "kernels/quantize_rows.inl"
#include "kernels/quantized_matmul.inl"
#include "kernels/write_kv.inl"

namespace holdfast {
namespace {

constexpr KernelTable MakeKernelTable(Isa isa, const char* name) {
  return {.isa = isa,
          .name = name,
          .matmul_panels = DotsOfWords<255>::kUsed ? kUnpackedPanelsInWords : kUnpackedPanels,
          .quantize_rows = QuantizeRows,
          .quantized_matmul = QuantizedMatmul,
          .float_matmul = FloatMatmul,
          .round_rows = RoundRows,
          .bf16_matmul = Bf16Matmul,
          .rms_norm = RmsNorm,
          .rope = Rope,
          .swiglu = Swiglu,
          .add = AddInPlace,
          .write_kv = WriteKv,
          .attention = Attention,
          .attention_part = AttendPart,
          .merge_attention = MergeAttention,
          .log_sum_exp = LogSumExp,
          .withhold = Withhold,
          .weigh_logits = WeighLogits};
}

}  // namespace
}  // namespace holdfast
