// The operator Attention: attributes and shapes checked, then attention.h.
// Inputs: qkv float [1, tokens, heads * dim + kv_heads * (dim + value_dim)]; pool uint8 [pages, page_bytes], written in
// place; kv_format int32 [2], KvType and whether pages hold summaries; sequence_starts int32 [sequences + 1]; held int32
// [sequences]; block_table int32 [sequences, pages of the longest]; optional cos and sin float [positions, dim / 2];
// optional norms of queries and keys float [dim]; optional bias that is in qkv, float [its width], whose part of keys is
// where they lie about; optional sinks float [heads].
#include "attention.h"

#include "kernels.h"
#include "operator.h"
#include "operators.h"
#include "threads.h"

namespace edgewise {
namespace {

using namespace ort;

class Attention {
 public:
  static constexpr const char* kName = "Attention";
  static constexpr Element kInputs[] = {kFloat, kUint8, kInt32, kInt32, kInt32, kInt32,
                                        kFloat, kFloat, kFloat, kFloat, kFloat, kFloat};
  static constexpr size_t kRequired = 6;

  Attention(const Api* api, const Info* info) : api_(api), inputs_(api, info), team_(Team::of(current_threads())) {
    shape_.heads = integer(info, "heads");
    shape_.kv_heads = integer(info, "kv_heads");
    shape_.dim = integer(info, "head_dim");
    shape_.value_dim = integer(info, "value_dim");
    shape_.window = integer(info, "window");
    shape_.layer = integer(info, "layer");
    check(api->attribute(info, "scale", &shape_.scale));
    check(api->attribute(info, "epsilon", &shape_.epsilon));
    check(api->attribute(info, "softcap", &shape_.cap));
    if (const char* wrong = shape_.fault())
      refuse("attention: " + std::string(wrong) + "; export with --engine onnxruntime");
  }

  void compute(Context* context) {
    const auto tensor = [&](size_t i) { return inputs_.get(context, i); };
    Tensor qkv = tensor(0);
    const Tensor pool = tensor(1), format = tensor(2), starts = tensor(3), held = tensor(4), table = tensor(5);
    const Tensor cos = tensor(6), sin = tensor(7), query_norm = tensor(8), key_norm = tensor(9);
    const Tensor bias = tensor(10), sinks = tensor(11);
    const int64_t width = shape_.width();
    if (!qkv.rank || qkv.dims[qkv.rank - 1] != width)
      refuse("qkv has the shape " + qkv.text() + ", expected [1, tokens, " + std::to_string(width) + "]");
    AttentionArguments args;
    args.qkv = static_cast<const float*>(qkv.data);
    args.tokens = qkv.elements() / width;
    args.sequences = held.elements();
    expect(starts, args.sequences + 1, "sequence_starts");
    expect(format, 2, "kv_format");
    if (pool.rank != 2) refuse("the pool has the shape " + pool.text() + ", expected [pages, bytes of a page]");
    if (table.rank != 2 || table.dims[0] != args.sequences)
      refuse("the block table has the shape " + table.text() + ", expected [" + std::to_string(args.sequences) +
             ", pages]");
    args.starts = static_cast<const int32_t*>(starts.data);
    args.held = static_cast<const int32_t*>(held.data);
    args.table = static_cast<const int32_t*>(table.data);
    args.table_width = table.dims[1];
    const int32_t* numbers = static_cast<const int32_t*>(format.data);
    args.pool = {static_cast<uint8_t*>(pool.data), pool.dims[0], pool.dims[1], static_cast<KvType>(numbers[0]),
                 numbers[1] != 0};
    if (cos.data && (!sin.data || cos.elements() != sin.elements() || cos.elements() % (shape_.dim / 2)))
      refuse("the rotary table has the shape " + cos.text() + " of cosines and " + sin.text() +
             " of sines, expected [positions, " + std::to_string(shape_.dim / 2) + "] of both");
    expect(query_norm, shape_.dim, "the norm of queries");
    expect(key_norm, shape_.dim, "the norm of keys");
    expect(bias, width, "the bias of qkv");
    expect(sinks, shape_.heads, "the sinks");
    args.positions = cos.data ? cos.elements() / (shape_.dim / 2) : 0;
    args.cos = static_cast<const float*>(cos.data);
    args.sin = static_cast<const float*>(sin.data);
    args.query_norm = static_cast<const float*>(query_norm.data);
    args.key_norm = static_cast<const float*>(key_norm.data);
    if (bias.data) args.center = static_cast<const float*>(bias.data) + static_cast<int64_t>(shape_.heads) * shape_.dim;
    args.sinks = static_cast<const float*>(sinks.data);
    if (const std::string wrong = fault(shape_, args); !wrong.empty()) refuse(wrong);
    qkv.dims[qkv.rank - 1] = shape_.heads * static_cast<int64_t>(shape_.value_dim);
    args.out = output(api_, context, qkv.dims, qkv.rank);
    attention(shape_, args, team_);
  }

 private:
  int integer(const Info* info, const char* name) const {
    int64_t value = 0;
    check(api_->attribute(info, name, &value));
    return static_cast<int>(value);
  }

  const Api* api_;
  Inputs<Attention> inputs_;
  AttentionShape shape_;
  Team& team_;
};

}  // namespace

const CustomOp* attention_operator() {
  static const auto& op = *new Operator<Attention>;
  return &op;
}

}  // namespace edgewise
