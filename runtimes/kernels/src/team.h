// Threads that share out a job. Each has a stretch of it for its own, which it takes piece by piece, and helps the others
// when that is done. Who asks works along; a helper that sleeps or was put aside by the system is not waited for, unless
// it holds a piece.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

namespace edgewise {

class Team {
 public:
  // Does the units [begin, end) of a job.
  using Work = void (*)(const void* context, int64_t begin, int64_t end);

  static constexpr int kMostThreads = 256;
  // Units that one run shares out.
  static constexpr int64_t kMostUnits = 0xffff;

  // The team of `threads` (1 to kMostThreads), caller included; one for the whole process, never destroyed.
  static Team& of(int threads);

  // Call work for the units 0 .. units - 1, each once, neighbours together where it can be, and return when all are done.
  // A caller that finds the team busy with another's job does its own alone. At most kMostUnits.
  void run(int64_t units, Work work, const void* context);

  // f(begin, end) for stretches of units.
  template <class F>
  void share(int64_t units, const F& f) {
    struct Part {
      const F& f;
      int64_t first;
    };
    const Work work = [](const void* context, int64_t begin, int64_t end) {
      const Part& part = *static_cast<const Part*>(context);
      part.f(part.first + begin, part.first + end);
    };
    for (int64_t first = 0; first < units; first += kMostUnits) {
      const Part part{f, first};
      run(std::min(units - first, kMostUnits), work, &part);
    }
  }

  // f(unit) for each.
  template <class F>
  void each(int64_t units, const F& f) {
    share(units, [&f](int64_t begin, int64_t end) {
      for (int64_t unit = begin; unit < end; ++unit) f(unit);
    });
  }

  // What a later job reads, where that is known: `units` of so many bytes each. Helpers with nothing to do
  // bring near what of it will be theirs.
  void expect(const void* data, int64_t unit_bytes, int64_t units) {
    expected_.store(static_cast<const char*>(data), std::memory_order_relaxed);
    expected_unit_.store(unit_bytes, std::memory_order_relaxed);
    expected_units_.store(units, std::memory_order_relaxed);
  }

  int threads() const { return threads_; }

 private:
  explicit Team(int threads);
  void start();
  void help(int member);
  struct Ahead;
  void wait_for_job(uint64_t seen, Ahead& ahead);
  static void forked();
  int64_t first_of(int member, int64_t units) const { return units * member / threads_; }
  bool take(int member, uint64_t job, int64_t& begin, int64_t& end);
  bool take_from(int owner, bool front, uint64_t job, int64_t& begin, int64_t& end);

  // What is left of a member's stretch: the number of the job (32 bits), its first unit and the one behind its last (16
  // bits each), changed as one.
  struct alignas(64) Stretch {
    std::atomic<uint64_t> left{0};
  };

  const int threads_;
  const std::unique_ptr<Stretch[]> stretches_;
  // Fork copies no threads: a child whose generation is another starts its own.
  std::atomic<uint64_t> generation_{0};
  bool spins_ = true;

  alignas(64) std::atomic<uint64_t> job_{0};
  std::atomic<Work> work_{nullptr};
  std::atomic<const void*> context_{nullptr};
  // May be seen in parts of two calls of `expect`: prefetching reads no memory that is not there.
  std::atomic<const char*> expected_{nullptr};
  std::atomic<int64_t> expected_unit_{0};
  std::atomic<int64_t> expected_units_{0};
  alignas(64) std::atomic<int64_t> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};

  struct Waiting {
    std::mutex mutex;
    std::condition_variable changed;
  };
  Waiting* waiting_ = nullptr;
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace edgewise
