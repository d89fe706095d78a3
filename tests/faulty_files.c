/* Loaded before libc: reads and writes of chosen files fail, and the clock jumps back.

   FAULT_PATH   a part of the file's path; links of /proc/self/fd say what a handle is open for
   FAULT_CALL   read or write
   FAULT_ERRNO  the number of the error
   FAULT_AFTER  so many calls on such files succeed first, counted anew where it changes
   CLOCK_BACK_S every reading of the wall clock is so many seconds before the last one */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int fails(const char *call, int handle) {
    static int done, known = -1;
    const char *part = getenv("FAULT_PATH"), *wanted = getenv("FAULT_CALL");
    char link[64], path[4096];
    ssize_t length;
    int saved = errno;
    if (part == NULL || wanted == NULL || strcmp(call, wanted) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length < 0) return 0;
    path[length] = 0;
    if (strstr(path, part) == NULL) return 0;
    if (atoi(getenv("FAULT_AFTER")) != known) {
        known = atoi(getenv("FAULT_AFTER"));
        done = 0;
    }
    if (__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST) < atoi(getenv("FAULT_AFTER"))) return 0;
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

ssize_t read(int handle, void *into, size_t count) {
    static ssize_t (*next)(int, void *, size_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "read");
    return fails("read", handle) ? -1 : next(handle, into, count);
}

ssize_t write(int handle, const void *from, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (next == NULL) next = dlsym(RTLD_NEXT, "write");
    return fails("write", handle) ? -1 : next(handle, from, count);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    static int readings;
    int code;
    if (next == NULL) next = dlsym(RTLD_NEXT, "clock_gettime");
    code = next(clock, now);
    if (code == 0 && clock == CLOCK_REALTIME && getenv("CLOCK_BACK_S") != NULL)
        now->tv_sec -= (time_t)atoi(getenv("CLOCK_BACK_S")) *
                       __atomic_add_fetch(&readings, 1, __ATOMIC_SEQ_CST);
    return code;
}
