// Threads that share out the chunks of a job. Who asks works along; a helper that sleeps or was put aside by the system
// is not waited for, unless it holds a chunk.
#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace edgewise {

class Team {
 public:
  using Work = void (*)(const void* context, int64_t chunk);

  static constexpr int kMostThreads = 256;

  // The team of `threads` (1 to kMostThreads), caller included; one for the whole process, never destroyed.
  static Team& of(int threads);

  // Call work(context, 0 .. chunks - 1), each once, and return when all are done. A caller that finds the team busy with
  // another's job does its own alone.
  void run(int64_t chunks, Work work, const void* context);

  template <class F>
  void run(int64_t chunks, const F& f) {
    const Work work = [](const void* context, int64_t chunk) { (*static_cast<const F*>(context))(chunk); };
    run(chunks, work, &f);
  }

  // What the job after the next reads, where that is known: helpers with nothing to do bring it near.
  void expect(const void* data, int64_t bytes) {
    expected_.store(static_cast<const char*>(data), std::memory_order_relaxed);
    expected_bytes_.store(bytes, std::memory_order_relaxed);
  }

  int threads() const { return threads_; }

 private:
  explicit Team(int threads) : threads_(threads) {}
  void start();
  static void* helper(void* team);
  void help();
  struct Ahead;
  void wait_for_job(uint64_t seen, Ahead& ahead);
  static void forked();
  bool take(uint64_t& ticket, int64_t& chunk) const;

  const int threads_;
  // Fork copies no threads: a child whose generation is another starts its own.
  std::atomic<uint64_t> generation_{0};
  bool spins_ = true;

  // The number of the job (32 bits), its chunks (16) and the next to be taken (16), changed as one.
  mutable std::atomic<uint64_t> ticket_{0};
  std::atomic<Work> work_{nullptr};
  std::atomic<const void*> context_{nullptr};
  // May be seen in parts of two calls of `expect`: prefetching reads no memory that is not there.
  std::atomic<const char*> expected_{nullptr};
  std::atomic<int64_t> expected_bytes_{0};
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
