/* A wall clock that is ahead by SHIFTED_CLOCK_S seconds, or behind when they are negative, for a
 * program that is started with this library in LD_PRELOAD, and whatever that starts. All other
 * clocks and all timers stay as they are; whoever waits for a time of day waits for the true one.
 *
 * It must work before the allocator does, and inside of it: jemalloc asks for the time while it
 * holds its locks. So it calls the kernel, and neither allocates nor looks for symbols. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t ahead_s;

__attribute__((constructor)) static void read_shift(void) {
    const char* text = getenv("SHIFTED_CLOCK_S");
    if (text != NULL) ahead_s = atoll(text);
}

int clock_gettime(clockid_t clock, struct timespec* at) {
    const long failed = syscall(SYS_clock_gettime, clock, at);
    const int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (failed == 0 && is_wall) at->tv_sec += ahead_s;
    return (int)failed;
}

int gettimeofday(struct timeval* restrict at, void* restrict zone) {
    const long failed = syscall(SYS_gettimeofday, at, zone);
    if (failed == 0) at->tv_sec += ahead_s;
    return (int)failed;
}

time_t time(time_t* at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &now) != 0) return -1;
    if (at != NULL) *at = now.tv_sec;
    return now.tv_sec;
}
