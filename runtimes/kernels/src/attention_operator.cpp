// The operator Attention: attributes and shapes checked, then attention.h.
// Inputs: qkv float [1, tokens, (heads + 2 * kv_heads) * dim]; keys float [1, kv_heads, pages, dim, 64] and values float
// [1, kv_heads, 64 * pages, dim], both written in place; total int32 [1], tokens held and new; optional cos and sin
// float [positions, dim / 2]; optional norms of queries and keys float [dim].
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
  static constexpr Element kInputs[] = {kFloat, kFloat, kFloat, kInt32, kFloat, kFloat, kFloat, kFloat};
  static constexpr size_t kRequired = 4;

  Attention(const Api* api, const Info* info) : api_(api), inputs_(api, info), team_(Team::of(current_threads())) {
    shape_.heads = integer(info, "heads");
    shape_.kv_heads = integer(info, "kv_heads");
    shape_.dim = integer(info, "head_dim");
    shape_.window = integer(info, "window");
    check(api->attribute(info, "scale", &shape_.scale));
    check(api->attribute(info, "epsilon", &shape_.epsilon));
    const bool sizes = shape_.kv_heads >= 1 && shape_.heads % shape_.kv_heads == 0 && shape_.dim >= 2 &&
                       shape_.dim % 2 == 0 && shape_.dim <= 1024 && shape_.window >= 0;
    if (!(shape_.scale > 0)) refuse("the scale of attention is " + std::to_string(shape_.scale) + ", expected above 0");
    if (!sizes || shape_.heads / shape_.kv_heads < 1 || shape_.heads / shape_.kv_heads > kBlockRows)
      refuse(std::to_string(shape_.heads) + " heads of " + std::to_string(shape_.dim) + " over " +
             std::to_string(shape_.kv_heads) + " KV heads are not supported; export with --engine onnxruntime");
  }

  void compute(Context* context) {
    const auto tensor = [&](size_t i) { return inputs_.get(context, i); };
    Tensor qkv = tensor(0);
    const Tensor keys = tensor(1), values = tensor(2), total = tensor(3);
    const Tensor cos = tensor(4), sin = tensor(5), query_norm = tensor(6), key_norm = tensor(7);
    const int64_t width = (shape_.heads + 2 * shape_.kv_heads) * static_cast<int64_t>(shape_.dim);
    if (!qkv.rank || qkv.dims[qkv.rank - 1] != width)
      refuse("qkv has the shape " + qkv.text() + ", expected [1, tokens, " + std::to_string(width) + "]");
    AttentionArguments args;
    args.qkv = static_cast<const float*>(qkv.data);
    args.tokens = qkv.elements() / width;
    const int64_t kv_width = shape_.kv_heads * static_cast<int64_t>(shape_.dim);
    args.capacity = values.elements() / kv_width;
    if (args.capacity % kPageTokens || values.elements() != args.capacity * kv_width ||
        keys.elements() != values.elements())
      refuse("the KV cache has the shapes " + keys.text() + " and " + values.text() + ", expected pages of " +
             std::to_string(kPageTokens) + " tokens of " + std::to_string(kv_width) + " numbers");
    expect(total, 1, "the number of tokens");
    const int64_t length = *static_cast<const int32_t*>(total.data);
    args.past = length - args.tokens;
    if (args.past < 0 || length > args.capacity)
      refuse(std::to_string(length) + " tokens, " + std::to_string(args.tokens) + " of them new, do not fit a cache of " +
             std::to_string(args.capacity));
    const int64_t half = shape_.dim / 2;
    if (cos.data && (!sin.data || cos.elements() != sin.elements() || cos.elements() < length * half))
      refuse("the rotary table has the shape " + cos.text() + ", too short for " + std::to_string(length) + " tokens");
    expect(query_norm, shape_.dim, "the norm of queries");
    expect(key_norm, shape_.dim, "the norm of keys");
    args.keys = static_cast<float*>(keys.data);
    args.values = static_cast<float*>(values.data);
    args.cos = static_cast<const float*>(cos.data);
    args.sin = static_cast<const float*>(sin.data);
    args.query_norm = static_cast<const float*>(query_norm.data);
    args.key_norm = static_cast<const float*>(key_norm.data);
    qkv.dims[qkv.rank - 1] = shape_.heads * static_cast<int64_t>(shape_.dim);
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
