// Memory that is used again, in parts that are aligned for vectors.
#pragma once

#include <cstdint>
#include <vector>

namespace edgewise {

class Scratch {
 public:
  void resize(int64_t bytes) {
    const size_t needed = static_cast<size_t>(bytes) + kLine;
    // Never smaller: growing again would clear it again.
    if (memory_.size() < needed) memory_.resize(needed);
    at_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.data()) + kLine - 1) / kLine * kLine);
  }
  template <class T>
  T* take(int64_t count) {
    T* taken = reinterpret_cast<T*>(at_);
    at_ += bytes<T>(count);
    return taken;
  }
  template <class T>
  static int64_t bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + kLine - 1) / kLine * kLine;
  }

 private:
  static constexpr int64_t kLine = 64;
  std::vector<char> memory_;
  char* at_ = nullptr;
};

}  // namespace edgewise
