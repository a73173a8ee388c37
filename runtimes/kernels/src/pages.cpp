#include "pages.h"

namespace edgewise {

PageShape page_shape(KvType type, int dim, int value_dim, bool summary) {
  const auto whole_lines = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  PageShape s;
  s.type = type;
  s.dim = dim;
  s.value_dim = value_dim;
  if (s.coded()) {
    const int bits = type == KvType::int8 ? 8 : 4;
    s.keys = {kPageTokens, dim, bits, kGroup, false, false};
    s.values_at = s.keys.bytes();
    s.value_panels = (value_dim + kPanelRows - 1) / kPanelRows;
    s.value_panel_bytes = kPageTokens * kPanelRows * bits / 8;
    // Sixteen levels want a scale for fewer numbers.
    s.value_group = bits == 8 ? s.value_panels * kPanelRows : kGroup;
    s.value_groups = (value_dim + s.value_group - 1) / s.value_group;
    s.scales_at = s.values_at + s.value_panels * s.value_panel_bytes;
    s.bytes = s.scales_at + 2 * kPageTokens * s.value_groups;
  } else {
    const int64_t number = type == KvType::float32 ? 4 : 2;
    s.values_at = kPageTokens * number * dim;
    s.bytes = s.values_at + kPageTokens * number * value_dim;
  }
  if (summary) {
    s.summary_at = s.bytes;
    s.bytes = whole_lines(s.bytes + 2 * sizeof(float) * dim);
  }
  return s;
}

}  // namespace edgewise
