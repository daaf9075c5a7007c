/* Lets calls of the system fail on demand, for paths that contain a given text.

   Loaded before the C library (LD_PRELOAD). A file that is shared with whoever steers it, named by
   TORTURE_CONTROL, says which calls fail, with what error, after how many and how often; how many
   bytes files may still grow; and by how much the clock is wrong. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    READ = 1, WRITE = 2, SYNC = 4, OPEN = 8, OPEN_TO_WRITE = 16,
    CLOSE = 32, RENAME = 64, LINK = 128, UNLINK = 256, TRUNCATE = 512
};

struct control {
    _Atomic int32_t calls;  /* which fail: a sum of the above */
    _Atomic int32_t error;  /* what `errno` is then */
    _Atomic int32_t skip;   /* so many that match succeed first */
    _Atomic int32_t times;  /* so many fail then; negative: all */
    _Atomic int32_t hits;   /* so many failed */
    _Atomic int32_t full;   /* whether files may grow by `room` only */
    _Atomic int64_t room;   /* bytes */
    _Atomic int64_t clock_s; /* added to the time of day */
    char part[232];         /* of the path */
};

static struct control nothing, *control = &nothing;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TORTURE_CONTROL");
    int descriptor = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *shared = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED,
                        descriptor, 0);
    close(descriptor);
    if (shared != MAP_FAILED) control = shared;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_meant(const char *path) { return path && strstr(path, control->part) != NULL; }

/* Whether this call fails, which `errno` says then. */
static int fails(int call, const char *path) {
    if (!(control->calls & call) || !is_meant(path)) return 0;
    if (control->skip > 0) { control->skip--; return 0; }
    if (control->times == 0) return 0;
    if (control->times > 0) control->times--;
    control->hits++;
    errno = control->error;
    return 1;
}

static const char *path_of(int descriptor, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    int before = errno;
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = before;
    path[length < 0 ? 0 : length] = 0;
    return path;
}

static int fails_at(int call, int descriptor) {
    char path[PATH_MAX];
    return (control->calls & call) && fails(call, path_of(descriptor, path));
}

/* How much of a write there is room for; -1 if there is none. */
static ssize_t fitting(int descriptor, size_t count, off_t offset) {
    char path[PATH_MAX];
    struct stat status;
    if (!control->full || !is_meant(path_of(descriptor, path)) || fstat(descriptor, &status))
        return count;
    if (offset < 0 && (fcntl(descriptor, F_GETFL) & O_APPEND)) offset = status.st_size;
    if (offset < 0) offset = lseek(descriptor, 0, SEEK_CUR);
    int64_t growth = (int64_t)offset + (int64_t)count - (int64_t)status.st_size;
    if (growth <= 0) return count;
    if (growth > control->room) {
        int64_t fits = (int64_t)count - growth + control->room;
        control->hits++;
        control->room = 0;
        if (fits <= 0) { errno = ENOSPC; return -1; }
        return fits;
    }
    control->room -= growth;
    return count;
}

static int opening(const char *path, int flags) {
    return fails(OPEN, path) || ((flags & O_ACCMODE) != O_RDONLY && fails(OPEN_TO_WRITE, path));
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE REAL(open);
    return opening(path, flags) ? -1 : real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE REAL(open64);
    return opening(path, flags) ? -1 : real(path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE REAL(openat);
    return opening(path, flags) ? -1 : real(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE REAL(openat64);
    return opening(path, flags) ? -1 : real(at, path, flags, mode);
}

int close(int descriptor) {
    REAL(close);
    int failed = fails_at(CLOSE, descriptor), error = errno;
    int result = real(descriptor); /* Linux closes it, whatever it says */
    if (!failed) return result;
    errno = error;
    return -1;
}

#define READING(name, ...) \
    ssize_t name(int descriptor, void *data, size_t count, ##__VA_ARGS__)

READING(read) { REAL(read); return fails_at(READ, descriptor) ? -1 : real(descriptor, data, count); }
READING(pread, off_t offset) {
    REAL(pread);
    return fails_at(READ, descriptor) ? -1 : real(descriptor, data, count, offset);
}
READING(pread64, off64_t offset) {
    REAL(pread64);
    return fails_at(READ, descriptor) ? -1 : real(descriptor, data, count, offset);
}

ssize_t write(int descriptor, const void *data, size_t count) {
    REAL(write);
    if (fails_at(WRITE, descriptor)) return -1;
    ssize_t fits = fitting(descriptor, count, -1);
    return fits < 0 ? -1 : real(descriptor, data, fits);
}
ssize_t pwrite(int descriptor, const void *data, size_t count, off_t offset) {
    REAL(pwrite);
    if (fails_at(WRITE, descriptor)) return -1;
    ssize_t fits = fitting(descriptor, count, offset);
    return fits < 0 ? -1 : real(descriptor, data, fits, offset);
}
ssize_t pwrite64(int descriptor, const void *data, size_t count, off64_t offset) {
    REAL(pwrite64);
    if (fails_at(WRITE, descriptor)) return -1;
    ssize_t fits = fitting(descriptor, count, offset);
    return fits < 0 ? -1 : real(descriptor, data, fits, offset);
}

int fsync(int descriptor) { REAL(fsync); return fails_at(SYNC, descriptor) ? -1 : real(descriptor); }
int fdatasync(int descriptor) {
    REAL(fdatasync);
    return fails_at(SYNC, descriptor) ? -1 : real(descriptor);
}

int ftruncate(int descriptor, off_t size) {
    REAL(ftruncate);
    return fails_at(TRUNCATE, descriptor) ? -1 : real(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) {
    REAL(ftruncate64);
    return fails_at(TRUNCATE, descriptor) ? -1 : real(descriptor, size);
}

int rename(const char *old, const char *new) {
    REAL(rename);
    return fails(RENAME, new) ? -1 : real(old, new);
}
int link(const char *old, const char *new) { REAL(link); return fails(LINK, new) ? -1 : real(old, new); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    REAL(linkat);
    return fails(LINK, new) ? -1 : real(from, old, to, new, flags);
}
int unlink(const char *path) { REAL(unlink); return fails(UNLINK, path) ? -1 : real(path); }

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        time->tv_sec += control->clock_s;
    return result;
}
int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    REAL(gettimeofday);
    int result = real(time, zone);
    if (!result) time->tv_sec += control->clock_s;
    return result;
}
time_t time(time_t *result) {
    REAL(time);
    time_t now = real(NULL) + control->clock_s;
    if (result) *result = now;
    return now;
}
