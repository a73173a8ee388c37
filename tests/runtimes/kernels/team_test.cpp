// Teams: each unit once, whoever asks, however many threads, in the child of a fork and after a sleep.
#include "team.h"

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <thread>

#include "check.h"

// Threads are started in the child of a fork, on purpose.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() { return "die_after_fork=0"; }

namespace edgewise::test {
namespace {

// Runs a job of `chunks` and checks that each was done once.
void run_and_count(Team& team, int64_t chunks) {
  const std::unique_ptr<std::atomic<int>[]> done(new std::atomic<int>[chunks + 1]());
  team.each(chunks, [&](int64_t chunk) { done[chunk < 0 || chunk > chunks ? chunks : chunk].fetch_add(1); });
  for (int64_t i = 0; i < chunks; ++i) CHECK(done[i] == 1);
  CHECK(done[chunks] == 0);
}

void test_counts() {
  for (const int threads : {1, 2, 3, 8, 19, Team::kMostThreads})
    for (const int64_t chunks : {0, 1, 2, 3, 1000, 65534, 65535, 65536, 70000}) {
      trying = "a team of " + std::to_string(threads) + ", " + std::to_string(chunks) + " chunks";
      CHECK(Team::of(threads).threads() == threads);
      run_and_count(Team::of(threads), chunks);
    }
}

// A member that is put aside keeps only the piece it holds: the others do the rest of its stretch.
void test_helping() {
  constexpr int64_t units = 400;
  for (int threads = 2; threads < 6; ++threads) {
    trying = "a member of " + std::to_string(threads) + " that stands still";
    for (const int64_t stuck : {int64_t{0}, units / threads}) {
      std::atomic<int64_t> done{0};
      Team::of(threads).share(units, [&](int64_t begin, int64_t end) {
        if (begin == stuck)
          while (done < units - (end - begin)) sched_yield();
        done.fetch_add(end - begin);
      });
      CHECK(done == units);
    }
  }
}

// What one chunk writes plainly, the next job and the caller read: a team orders memory.
void test_memory_order(int jobs) {
  trying = "jobs that read what the last one wrote";
  constexpr int64_t chunks = 64;
  std::vector<int64_t> now(chunks), next(chunks);
  for (int job = 0; job < jobs; ++job) {
    Team::of(3).each(chunks, [&](int64_t i) { next[i] = now[(i + 1) % chunks] + 1; });
    now.swap(next);
    CHECK(now[job % chunks] == job + 1);
  }
}

void test_callers_at_once(int jobs) {
  trying = "two callers at once";
  const auto caller = [jobs](int threads) {
    for (int job = 0; job < jobs; ++job) run_and_count(Team::of(job % 3 ? 3 : threads), job % 40);
  };
  std::thread other(caller, 2);
  caller(8);
  other.join();
}

// A child that ends well has exit code 0; `check` exits with 1 where something is not so.
void expect_success(pid_t child) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// AddressSanitizer's own allocator may be locked by another thread at a fork, and stays so in the child.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kForks = false;
#else
constexpr bool kForks = true;
#endif

void test_fork() {
  trying = "a fork";
  run_and_count(Team::of(3), 100);
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    trying = "the child of a fork";
    for (int job = 0; job < 200; ++job) run_and_count(Team::of(3), job);
    _exit(0);
  }
  run_and_count(Team::of(3), 100);
  expect_success(child);
}

// The job under way when a process forks is the parent's; the child's helpers have nothing to do with it.
void test_fork_in_a_job() {
  trying = "a fork in the middle of a job";
  // So many that the first are at work before the last is started.
  Team& team = Team::of(64);
  const pid_t parent = getpid();
  std::atomic<int> done{0};
  std::atomic<pid_t> child{0};
  team.each(500, [&](int64_t) {
    if (getpid() != parent) _exit(3);
    if (done.fetch_add(1) != 100) return;
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
      trying = "the child of a fork in the middle of a job";
      for (int job = 0; job < 200; ++job) run_and_count(team, job);
      _exit(0);
    }
  });
  CHECK(done == 500);
  expect_success(child);
}

// Threads of this process that sleep, as the kernel says.
int sleeping() {
  int count = 0;
  DIR* tasks = opendir("/proc/self/task");
  CHECK(tasks);
  while (const dirent* task = readdir(tasks)) {
    std::ifstream file(std::string("/proc/self/task/") + task->d_name + "/stat");
    std::string line;
    std::getline(file, line);
    const size_t name = line.rfind(')');
    count += name != std::string::npos && line.compare(name, 3, ") S") == 0;
  }
  closedir(tasks);
  return count;
}

// A job that needs every thread of the team: no chunk ends before all have begun.
void test_waking() {
  constexpr int threads = 5;
  for (int round = 0; round < 5; ++round) {
    trying = "helpers that sleep, round " + std::to_string(round);
    std::atomic<int> begun{0};
    Team::of(threads).each(threads, [&](int64_t) {
      begun.fetch_add(1);
      while (begun < threads) sched_yield();
    });
    CHECK(begun == threads);
    // Until they all sleep.
    while (sleeping() < threads - 1) sched_yield();
  }
}

}  // namespace

void test_team(const Options& options) {
  const int jobs = options.cases ? options.cases : 2000;
  test_waking();
  test_counts();
  test_helping();
  test_memory_order(jobs);
  test_callers_at_once(jobs);
  if (kForks && options.forks) {
    test_fork();
    test_fork_in_a_job();
  }
}

}  // namespace edgewise::test
