#include "team.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

namespace edgewise {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than an engine and Python need from token to token, so that helpers are awake when the next one comes.
constexpr auto kSpin = std::chrono::microseconds(1000);
// Of what is left of a stretch one part in so many is taken at once: long pieces at first, short ones at the end.
constexpr int64_t kParts = 4;
// What a helper brings near ahead of its use; more would push itself out of a level-2 cache.
constexpr int64_t kAheadBytes = 256 << 10;

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

uint64_t stretch(uint64_t job, int64_t begin, int64_t end) {
  return job << 32 | static_cast<uint64_t>(begin) << 16 | static_cast<uint64_t>(end);
}
uint64_t job_of(uint64_t left) { return left >> 32; }
int64_t begin_of(uint64_t left) { return static_cast<int64_t>(left >> 16 & 0xffff); }
int64_t end_of(uint64_t left) { return static_cast<int64_t>(left & 0xffff); }

}  // namespace

Team::Team(int threads) : threads_(threads), stretches_(new Stretch[threads]) {}

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

void Team::run(int64_t units, Work work, const void* context) {
  const bool alone = threads_ == 1 || units < 2;
  if (alone || busy_.test_and_set(std::memory_order_acquire)) {
    if (units > 0) work(context, 0, units);
    return;
  }
  if (generation_.load(std::memory_order_relaxed) != forks.load(std::memory_order_relaxed)) start();
  // Of 32 bits; 0 is no job's number.
  uint64_t job = (job_.load(std::memory_order_relaxed) + 1) & 0xffffffff;
  if (!job) job = 1;
  work_.store(work, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  for (int member = 0; member < threads_; ++member)
    stretches_[member].left.store(stretch(job, first_of(member, units), first_of(member + 1, units)),
                                  std::memory_order_release);
  job_.store(job, std::memory_order_seq_cst);
  if (sleepers_.load(std::memory_order_seq_cst)) {
    std::lock_guard<std::mutex> lock(waiting_->mutex);
    waiting_->changed.notify_all();
  }
  int64_t begin = 0, end = 0, mine = 0;
  while (take(0, job, begin, end)) {
    work(context, begin, end);
    mine += end - begin;
  }
  // A helper that was put aside in the middle of a piece needs a CPU to go on.
  for (int turns = 0; done_.load(std::memory_order_acquire) + mine < units; ++turns) {
    if (spins_ && turns < (1 << 14))
      pause();
    else
      sched_yield();
  }
  busy_.clear(std::memory_order_release);
}

// Takes the next piece of `job`: the first of the member's own stretch, or else the last of another's; false where none is
// left.
bool Team::take(int member, uint64_t job, int64_t& begin, int64_t& end) {
  if (take_from(member, true, job, begin, end)) return true;
  for (int other = 1; other < threads_; ++other)
    if (take_from((member + other) % threads_, false, job, begin, end)) return true;
  return false;
}

bool Team::take_from(int owner, bool front, uint64_t job, int64_t& begin, int64_t& end) {
  std::atomic<uint64_t>& place = stretches_[owner].left;
  uint64_t left = place.load(std::memory_order_acquire);
  while (job_of(left) == job && begin_of(left) < end_of(left)) {
    begin = begin_of(left), end = end_of(left);
    const int64_t piece = (end - begin + kParts - 1) / kParts;
    const uint64_t rest = front ? stretch(job, begin + piece, end) : stretch(job, begin, end - piece);
    front ? end = begin + piece : begin = end - piece;
    if (place.compare_exchange_weak(left, rest, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
  return false;
}

void Team::start() {
  // A job that was under way at a fork is not for the helpers of the child.
  for (int member = 0; member < threads_; ++member) stretches_[member].left.store(0);
  waiting_ = new Waiting;
  sleepers_.store(0);
  spins_ = threads_ <= allowed_cpus();
  generation_ = forks.load();
  struct Member {
    Team* team;
    int number;
  };
  for (int number = 1; number < threads_; ++number) {
    pthread_t thread;
    Member* member = new Member{this, number};
    const auto body = [](void* given) -> void* {
      const std::unique_ptr<Member> member(static_cast<Member*>(given));
      member->team->help(member->number);
      return nullptr;
    };
    // Without it the others do its share.
    if (pthread_create(&thread, nullptr, body, member) == 0)
      pthread_detach(thread);
    else
      delete member;
  }
}

// How far a helper has come in what is expected of it.
struct Team::Ahead {
  int member;
  const char* expected = nullptr;
  const char* data = nullptr;
  int64_t left = 0;

  // Asks for the next few lines; false where there are none.
  bool step(const Team& team) {
    const char* now = team.expected_.load(std::memory_order_relaxed);
    if (now != expected) {
      expected = now;
      const int64_t units = team.expected_units_.load(std::memory_order_relaxed);
      const int64_t bytes = team.expected_unit_.load(std::memory_order_relaxed), first = team.first_of(member, units);
      data = now + first * bytes;
      left = std::min(kAheadBytes, (team.first_of(member + 1, units) - first) * bytes);
    }
    if (left <= 0) return false;
    for (int line = 0; line < 4; ++line, data += 64, left -= 64) __builtin_prefetch(data, 0, 2);
    return true;
  }
};

void Team::help(int member) {
  uint64_t seen = 0;
  Ahead ahead{member};
  for (;;) {
    wait_for_job(seen, ahead);
    seen = job_.load(std::memory_order_acquire);
    int64_t begin = 0, end = 0;
    // The job's work stays as it is for as long as a piece of it is not done.
    while (take(member, seen, begin, end)) {
      work_.load(std::memory_order_relaxed)(context_.load(std::memory_order_relaxed), begin, end);
      done_.fetch_add(end - begin, std::memory_order_release);
    }
  }
}

// Waits for a job other than `seen`: awake for a while, then asleep.
void Team::wait_for_job(uint64_t seen, Ahead& ahead) {
  if (spins_) {
    const auto end = Clock::now() + kSpin;
    do {
      for (int i = 0; i < 64; ++i) {
        if (job_.load(std::memory_order_acquire) != seen) return;
        if (!ahead.step(*this)) pause();
      }
    } while (Clock::now() < end);
  }
  std::unique_lock<std::mutex> lock(waiting_->mutex);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  waiting_->changed.wait(lock, [&] { return job_.load(std::memory_order_seq_cst) != seen; });
  sleepers_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace edgewise
