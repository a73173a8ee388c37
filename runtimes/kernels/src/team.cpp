#include "team.h"

#include <sched.h>

#include <chrono>

namespace edgewise {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than an engine and Python need from token to token, so that helpers are awake when the next one comes.
constexpr auto kSpin = std::chrono::microseconds(1000);
constexpr int64_t kMostChunks = 0xffff;
constexpr uint64_t kJob = uint64_t{1} << 32;

std::atomic<uint64_t> forks{1};
// Left in place at exit: helpers may still be looking at them.
std::atomic<Team*> teams[Team::kMostThreads + 1];

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1 << 10;
}

int64_t chunks_of(uint64_t ticket) { return static_cast<int64_t>(ticket >> 16 & 0xffff); }
int64_t next_of(uint64_t ticket) { return static_cast<int64_t>(ticket & 0xffff); }

}  // namespace

Team& Team::of(int threads) {
  static const int registered = pthread_atfork(nullptr, nullptr, forked);
  (void)registered;
  std::atomic<Team*>& place = teams[threads];
  Team* team = place.load(std::memory_order_acquire);
  if (!team) {
    Team* fresh = new Team(threads);
    if (place.compare_exchange_strong(team, fresh, std::memory_order_acq_rel))
      team = fresh;
    else
      delete fresh;
  }
  return *team;
}

// In the child of a fork: no helper has come along, nor the thread that may have had a job under way.
void Team::forked() {
  forks.fetch_add(1);
  for (std::atomic<Team*>& place : teams)
    if (Team* team = place.load()) team->busy_.clear();
}

void Team::run(int64_t chunks, Work work, const void* context) {
  if (chunks > kMostChunks) {
    for (int64_t i = 0; i < chunks; ++i) work(context, i);
    return;
  }
  const bool alone = threads_ == 1 || chunks < 2;
  if (alone || busy_.test_and_set(std::memory_order_acquire)) {
    for (int64_t i = 0; i < chunks; ++i) work(context, i);
    return;
  }
  if (generation_.load(std::memory_order_relaxed) != forks.load(std::memory_order_relaxed)) start();
  work_.store(work, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  const uint64_t job = (ticket_.load(std::memory_order_relaxed) / kJob + 1) * kJob;
  ticket_.store(job | static_cast<uint64_t>(chunks) << 16, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst)) {
    std::lock_guard<std::mutex> lock(waiting_->mutex);
    waiting_->changed.notify_all();
  }
  uint64_t ticket = ticket_.load(std::memory_order_relaxed);
  int64_t chunk = 0, mine = 0;
  while (take(ticket, chunk)) {
    work(context, chunk);
    ++mine;
  }
  // A helper that was put aside in the middle of a chunk needs a CPU to go on.
  for (int turns = 0; done_.load(std::memory_order_acquire) + mine < chunks; ++turns) {
    if (spins_ && turns < (1 << 14))
      pause();
    else
      sched_yield();
  }
  busy_.clear(std::memory_order_release);
}

// Takes the next chunk of the job that `ticket` was last seen to be; false where there is none.
bool Team::take(uint64_t& ticket, int64_t& chunk) const {
  const uint64_t job = ticket / kJob;
  while (ticket / kJob == job && next_of(ticket) < chunks_of(ticket)) {
    if (ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
      chunk = next_of(ticket);
      ++ticket;
      return true;
    }
  }
  return false;
}

void Team::start() {
  // A job that was under way at a fork is not for the helpers of the child.
  ticket_.store(ticket_.load() / kJob * kJob);
  waiting_ = new Waiting;
  sleepers_.store(0);
  spins_ = threads_ <= allowed_cpus();
  generation_ = forks.load();
  for (int i = 1; i < threads_; ++i) {
    pthread_t thread;
    // Without it the others do its share.
    if (pthread_create(&thread, nullptr, helper, this) == 0) pthread_detach(thread);
  }
}

void* Team::helper(void* team) {
  static_cast<Team*>(team)->help();
  return nullptr;
}

// How far a helper has come in what is expected.
struct Team::Ahead {
  const char* data = nullptr;
  int64_t done = 0;

  // Asks for the next few lines; false where there are none.
  bool step(const Team& team) {
    const char* expected = team.expected_.load(std::memory_order_relaxed);
    if (expected != data) {
      data = expected;
      done = 0;
    }
    if (done >= team.expected_bytes_.load(std::memory_order_relaxed)) return false;
    for (int line = 0; line < 4; ++line, done += 64) __builtin_prefetch(data + done, 0, 2);
    return true;
  }
};

void Team::help() {
  uint64_t seen = 0;
  Ahead ahead;
  for (;;) {
    wait_for_job(seen, ahead);
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    seen = ticket / kJob;
    int64_t chunk = 0;
    // The job's work stays as it is for as long as a chunk of it is not done.
    while (take(ticket, chunk)) {
      work_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), chunk);
      done_.fetch_add(1, std::memory_order_release);
    }
  }
}

// Waits for a job other than `seen`: awake for a while, then asleep.
void Team::wait_for_job(uint64_t seen, Ahead& ahead) {
  const auto fresh = [&](std::memory_order order) { return ticket_.load(order) / kJob != seen; };
  if (spins_) {
    const auto end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (fresh(std::memory_order_acquire)) return;
        if (!ahead.step(*this)) pause();
      }
    } while (Clock::now() < end);
  }
  std::unique_lock<std::mutex> lock(waiting_->mutex);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  waiting_->changed.wait(lock, [&] { return fresh(std::memory_order_seq_cst); });
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace edgewise
