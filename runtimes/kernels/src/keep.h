// What becomes of a new token's queries, keys and values before attention: norms, rotary embedding, and their place in a
// page of the cache. Included inside the unnamed namespace of each instruction set, behind activations.h.

// One head of one token: RMS norm where `norm` is given, then rotary embedding (arXiv:2104.09864, halves apart) where
// `cos` is, [dim / 2] each.
void turn(const float* x, const float* norm, float epsilon, const float* cos, const float* sin, int dim, float* out) {
  const float factor = norm ? inverse_rms(x, dim, epsilon) : 1.0f;
  for (int d = 0; d < dim; ++d) out[d] = norm ? x[d] * factor * norm[d] : x[d];
  if (!cos) return;
  const int half = dim / 2;
  for (int d = 0; d < half; ++d) {
    const float a = out[d], b = out[half + d];
    out[d] = a * cos[d] - b * sin[d];
    out[half + d] = b * cos[d] + a * sin[d];
  }
}

// Codes of `count` numbers, at most kGroup, with `levels` above zero; returns their scale.
inline uint16_t encode(const float* x, int count, float top, int32_t levels, int8_t* codes) {
  constexpr uint16_t not_a_number = 0x7fc0;
  if (!(top < __builtin_inff()) || top < kSmallest) {
    __builtin_memset(codes, 0, sizeof(int8_t) * count);
    return top < kSmallest ? 0 : not_a_number;
  }
  const uint16_t scale = bfloat16_up(top / static_cast<float>(levels));
  const float inverse = 1.0f / from_bfloat16(scale);
  for (int i = 0; i < count; ++i) {
    const float shifted = x[i] * inverse + kRounder;
    int32_t bits;
    __builtin_memcpy(&bits, &shifted, 4);
    codes[i] = static_cast<int8_t>(bits - kRounderBits);
  }
  return scale;
}

// The largest magnitude, infinity where one is no number.
inline float largest(const float* x, int count) {
  int32_t top = 0;
  for (int i = 0; i < count; ++i) {
    int32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    bits &= 0x7fffffff;
    top = bits > top ? bits : top;
  }
  top = top > kInfinity ? kInfinity : top;
  float v;
  __builtin_memcpy(&v, &top, 4);
  return v;
}

// Codes of row `row` for the kGroup inputs from 32 * `group` on, in a panel of layout.h.
template <int bits>
void place(uint8_t* panel, int row, int group, const int8_t* codes) {
  constexpr int middle = 1 << (bits - 1);
  uint8_t* at = panel + group * (kGroup * kPanelRows * bits / 8) + 4 * row;
  for (int i = 0; i < kGroup; i += 32 / bits, at += 64)
    for (int j = 0; j < 4; ++j)
      at[j] = static_cast<uint8_t>(bits == 8 ? codes[i + j] + middle
                                             : (codes[i + j] + middle) | (codes[i + 4 + j] + middle) << 4);
}

template <int bits>
void keep_key_codes(const PageShape& s, uint8_t* page, int token, const float* key) {
  constexpr int levels = (1 << (bits - 1)) - 1;
  int8_t codes[kGroup];
  uint8_t* panel = page + token / kPanelRows * s.keys.panel_bytes();
  uint8_t* scales = panel + s.keys.code_bytes() + token % kPanelRows * 2;
  for (int at = 0, group = 0; at < s.dim; at += kGroup, ++group) {
    const int count = s.dim - at < kGroup ? s.dim - at : kGroup;
    __builtin_memset(codes, 0, sizeof codes);
    const uint16_t scale = encode(key + at, count, largest(key + at, count), levels, codes);
    place<bits>(panel, token % kPanelRows, group, codes);
    __builtin_memcpy(scales + group * kPanelRows * 2, &scale, 2);
  }
}

template <int bits>
void keep_value_codes(const PageShape& s, uint8_t* page, int token, const float* value) {
  constexpr int levels = (1 << (bits - 1)) - 1;
  int8_t codes[kGroup];
  // A byte of values holds what belongs to tokens: 4 bits of one and 4 of the fourth behind it.
  const int in_group = token % kGroup;
  const int offset = bits == 8 ? in_group / 4 * 64 + in_group % 4 : in_group / 8 * 64 + in_group % 4;
  const int shift = bits == 4 && in_group % 8 >= 4 ? 4 : 0;
  uint8_t* column = page + s.values_at + token / kGroup * (kGroup * kPanelRows * bits / 8) + offset;
  for (int group = 0; group < s.value_groups; ++group) {
    const int first = group * s.value_group;
    const int count = s.value_dim - first < s.value_group ? s.value_dim - first : s.value_group;
    const float top = largest(value + first, count);
    uint16_t scale = 0;
    for (int at = first; at < first + count; at += kGroup) {
      const int some = first + count - at < kGroup ? first + count - at : kGroup;
      scale = encode(value + at, some, top, levels, codes);
      for (int d = 0; d < some; ++d) {
        uint8_t* byte = column + (at + d) / kPanelRows * s.value_panel_bytes + (at + d) % kPanelRows * 4;
        *byte = static_cast<uint8_t>(bits == 8 ? codes[d] : (*byte & (0xf0 >> shift)) | (codes[d] + 8) << shift);
      }
    }
    uint8_t* to = page + s.scales_at + (group * kPageTokens + token) * 2;
    __builtin_memcpy(to, &scale, 2);
  }
}

// The key of token `token` of a page [dim].
void keep_key(const PageShape& s, uint8_t* page, int token, const float* key) {
  switch (s.type) {
    case KvType::float32: {
      float* column = reinterpret_cast<float*>(page) + token;
      for (int d = 0; d < s.dim; ++d) column[d * kPageTokens] = key[d];
      break;
    }
    case KvType::float16: {
      uint16_t* column = reinterpret_cast<uint16_t*>(page) + token;
      for (int d = 0; d < s.dim; ++d) column[d * kPageTokens] = to_half(key[d]);
      break;
    }
    case KvType::int8:
      keep_key_codes<8>(s, page, token, key);
      break;
    case KvType::int4:
      keep_key_codes<4>(s, page, token, key);
      break;
  }
  if (s.summary_at) {
    float *lowest = reinterpret_cast<float*>(page + s.summary_at), *highest = lowest + s.dim;
    for (int d = 0; d < s.dim; ++d) {
      lowest[d] = !token || key[d] < lowest[d] ? key[d] : lowest[d];
      highest[d] = !token || key[d] > highest[d] ? key[d] : highest[d];
    }
  }
}

// Token `token` of a page: key [dim], value [value_dim]. Tokens are kept in their order, by one thread a page.
void keep(const PageShape& s, uint8_t* page, int token, const float* key, const float* value) {
  keep_key(s, page, token, key);
  switch (s.type) {
    case KvType::float32: {
      float* row = reinterpret_cast<float*>(page + s.values_at) + token * s.value_dim;
      __builtin_memcpy(row, value, sizeof(float) * s.value_dim);
      break;
    }
    case KvType::float16: {
      uint16_t* row = reinterpret_cast<uint16_t*>(page + s.values_at) + token * s.value_dim;
      for (int d = 0; d < s.value_dim; ++d) row[d] = to_half(value[d]);
      break;
    }
    case KvType::int8:
      keep_value_codes<8>(s, page, token, value);
      break;
    case KvType::int4:
      keep_value_codes<4>(s, page, token, value);
      break;
  }
}

// The key of token `token` as it is kept.
template <int bits>
void key_of_codes(const PageShape& s, const uint8_t* page, int token, float* key) {
  constexpr int middle = 1 << (bits - 1);
  const uint8_t* panel = page + token / kPanelRows * s.keys.panel_bytes();
  const uint8_t* scales = panel + s.keys.code_bytes() + token % kPanelRows * 2;
  for (int d = 0; d < s.dim; ++d) {
    const int group = d / kGroup, in_group = d % kGroup, line = in_group / (32 / bits), in_line = in_group % (32 / bits);
    const uint8_t byte = panel[group * (kGroup * kPanelRows * bits / 8) + 4 * (token % kPanelRows) + line * 64 + in_line % 4];
    const int code = (bits == 8 ? byte : in_line < 4 ? byte & 15 : byte >> 4) - middle;
    uint16_t scale;
    __builtin_memcpy(&scale, scales + group * kPanelRows * 2, 2);
    key[d] = static_cast<float>(code) * from_bfloat16(scale);
  }
}

// Turns the key of token `token` on, by an angle of cos and sin [dim / 2]; `memory` [2][dim].
void turn_kept(const PageShape& s, uint8_t* page, int token, const float* cos, const float* sin, float* memory) {
  float *key = memory, *turned = memory + s.dim;
  switch (s.type) {
    case KvType::float32:
      for (int d = 0; d < s.dim; ++d) key[d] = reinterpret_cast<const float*>(page)[d * kPageTokens + token];
      break;
    case KvType::float16:
      for (int d = 0; d < s.dim; ++d) key[d] = of_half(reinterpret_cast<const uint16_t*>(page)[d * kPageTokens + token]);
      break;
    case KvType::int8:
      key_of_codes<8>(s, page, token, key);
      break;
    case KvType::int4:
      key_of_codes<4>(s, page, token, key);
      break;
  }
  turn(key, nullptr, 0.0f, cos, sin, s.dim, turned);
  keep_key(s, page, token, turned);
}
