/*
 * Records what a process does to the files below one directory, in the order in which it
 * happens: loaded before libc, it notes every call that changes a file, a name or what of them
 * is on disk. A call and its note are one step under a lock, so that the order of the notes is
 * the order of the calls in all threads.
 *
 * RECORDER_ROOT   the directory, absolute and without links
 * RECORDER_LOG    where the notes go
 * RECORDER_MARKS  a file: what is written to it is a note of its own
 *
 * A note: struct note, then `first` bytes (a path or data), then `second` bytes (a path).
 * SQLite's index of a log (-shm) is left out: it is made anew after a crash.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct note {
    uint8_t what;
    uint8_t padding[3];
    uint32_t first, second;
    uint32_t more;
    uint64_t inode;
    int64_t at;
};

enum { DESCRIPTORS = 65536 };
enum kind { OTHER, FILE_BELOW, MARKS };
static struct { uint64_t inode; uint8_t kind; } known[DESCRIPTORS];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *root, *marks;
static size_t root_length;
static int notes = -1;

#define REAL(name) ({ \
    static __typeof__(&name) real; \
    if (!real) { real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); } \
    real; })

static void note(char what, uint64_t inode, int64_t at, const void *first, size_t length,
                 const char *second);
static uint64_t inode_of(const char *path);

static void start(void) {
    const char *path = getenv("RECORDER_LOG");
    root = getenv("RECORDER_ROOT");
    marks = getenv("RECORDER_MARKS");
    if (!path || !root || !marks) { fputs("recorder: not told what to record\n", stderr); _exit(97); }
    root_length = strlen(root);
    notes = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (notes < 0) { perror("recorder"); _exit(97); }
    note('d', inode_of(root), 0, root, root_length, NULL);
}

static void enter(void) {
    pthread_mutex_lock(&lock);
    if (notes < 0) start();
}

static void leave(void) {
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
}

static void note(char what, uint64_t inode, int64_t at, const void *first, size_t length,
                 const char *second) {
    struct note head = { .what = what, .first = length,
                         .second = second ? strlen(second) : 0, .inode = inode, .at = at };
    struct iovec parts[] = { { &head, sizeof head }, { (void *)first, length },
                             { (void *)second, head.second } };
    int error = errno;
    ssize_t size = sizeof head + length + head.second;
    if (REAL(writev)(notes, parts, 3) != size) { perror("recorder"); _exit(97); }
    errno = error;
}

static uint64_t inode_of(const char *path) {
    struct stat status;
    return lstat(path, &status) ? 0 : status.st_ino;
}

static int below(const char *path) {
    size_t length = strlen(path);
    if (strncmp(path, root, root_length) || (path[root_length] && path[root_length] != '/'))
        return 0;
    return length < 4 || strcmp(path + length - 4, "-shm");
}

static void unsupported(const char *call) {
    fprintf(stderr, "recorder: %s is not recorded\n", call);
    _exit(97);
}

static int is_below(int fd) { return fd >= 0 && fd < DESCRIPTORS && known[fd].kind == FILE_BELOW; }

/* A path that begins at an open directory. */
static void check(const char *call, int dir, const char *path) {
    if (path[0] != '/' && is_below(dir)) unsupported(call);
}

static void opened(int fd, const char *path, int flags, int was_there) {
    struct stat status;
    if (fd < 0 || fd >= DESCRIPTORS) return;
    known[fd].kind = OTHER;
    if (!strcmp(path, marks)) { known[fd].kind = MARKS; return; }
    if (!below(path) || fstat(fd, &status)) return;
    known[fd].kind = FILE_BELOW;
    known[fd].inode = status.st_ino;
    if (!was_there && flags & O_CREAT) note('c', status.st_ino, 0, path, strlen(path), NULL);
    else if (flags & O_TRUNC) note('t', status.st_ino, 0, NULL, 0, NULL);
}

#define OPEN(call, ...) \
    int fd, was_there; struct stat before; mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
    enter(); \
    was_there = !lstat(path, &before); \
    fd = REAL(call)(__VA_ARGS__, mode); \
    opened(fd, path, flags, was_there); \
    leave(); \
    return fd;

int open(const char *path, int flags, ...) { OPEN(open, path, flags) }
int open64(const char *path, int flags, ...) { OPEN(open64, path, flags) }
int openat(int dir, const char *path, int flags, ...) {
    if (flags & O_ACCMODE) check("openat", dir, path);
    OPEN(openat, dir, path, flags)
}
int openat64(int dir, const char *path, int flags, ...) {
    if (flags & O_ACCMODE) check("openat64", dir, path);
    OPEN(openat64, dir, path, flags)
}
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int fd) {
    enter();
    if (fd >= 0 && fd < DESCRIPTORS) known[fd].kind = OTHER;
    int result = REAL(close)(fd);
    leave();
    return result;
}

ssize_t write(int fd, const void *data, size_t size) {
    if (fd < 0 || fd >= DESCRIPTORS || known[fd].kind == OTHER) return REAL(write)(fd, data, size);
    enter();
    ssize_t result;
    if (known[fd].kind == MARKS) {
        note('m', 0, 0, data, size, NULL);
        result = size;
    } else {
        result = REAL(write)(fd, data, size);
        /* Where it ended tells where it began, for those who append as well. */
        if (result > 0)
            note('w', known[fd].inode, lseek(fd, 0, SEEK_CUR) - result, data, result, NULL);
    }
    leave();
    return result;
}

#define PWRITE(call) \
    if (!is_below(fd)) return REAL(call)(fd, data, size, at); \
    enter(); \
    ssize_t result = REAL(call)(fd, data, size, at); \
    if (result > 0) note('w', known[fd].inode, at, data, result, NULL); \
    leave(); \
    return result;

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { PWRITE(pwrite) }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { PWRITE(pwrite64) }

#define AFTER(condition, action, call, ...) \
    if (!(condition)) return REAL(call)(__VA_ARGS__); \
    enter(); \
    int result = REAL(call)(__VA_ARGS__); \
    if (!result) { action; } \
    leave(); \
    return result;

#define RESIZE(call) \
    AFTER(is_below(fd), note('t', known[fd].inode, size, NULL, 0, NULL), call, fd, size)

int ftruncate(int fd, off_t size) { RESIZE(ftruncate) }
int ftruncate64(int fd, off64_t size) { RESIZE(ftruncate64) }

#define SYNC(call) AFTER(is_below(fd), note('s', known[fd].inode, 0, NULL, 0, NULL), call, fd)

int fsync(int fd) { SYNC(fsync) }
int fdatasync(int fd) { SYNC(fdatasync) }

#define PATHS(what, call, old, new, ...) \
    if (!root) { enter(); leave(); } \
    AFTER(below(old) || below(new), note(what, 0, 0, old, strlen(old), new), call, __VA_ARGS__)

int rename(const char *old, const char *new) { PATHS('r', rename, old, new, old, new) }
int renameat(int from, const char *old, int to, const char *new) {
    check("renameat", from, old);
    PATHS('r', renameat, old, new, from, old, to, new)
}
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    check("renameat2", from, old);
    PATHS('r', renameat2, old, new, from, old, to, new, flags)
}
int link(const char *old, const char *new) { PATHS('l', link, old, new, old, new) }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    check("linkat", from, old);
    PATHS('l', linkat, old, new, from, old, to, new, flags)
}

#define PATH(what, call, ...) \
    if (!root) { enter(); leave(); } \
    AFTER(below(path), note(what, inode_of(path), 0, path, strlen(path), NULL), call, __VA_ARGS__)

int unlink(const char *path) { PATH('u', unlink, path) }
int unlinkat(int dir, const char *path, int flags) {
    check("unlinkat", dir, path);
    PATH(flags & AT_REMOVEDIR ? 'x' : 'u', unlinkat, dir, path, flags)
}
int rmdir(const char *path) { PATH('x', rmdir, path) }
int mkdir(const char *path, mode_t mode) { PATH('d', mkdir, path, mode) }
int mkdirat(int dir, const char *path, mode_t mode) {
    check("mkdirat", dir, path);
    PATH('d', mkdirat, dir, path, mode)
}

/* What nobody does to a file below: it would have to be recorded if somebody did. */

#define NEVER(result, call, parameters, fd, ...) \
    result call parameters { if (is_below(fd)) unsupported(#call); return REAL(call)(__VA_ARGS__); }

NEVER(ssize_t, writev, (int fd, const struct iovec *parts, int count), fd, fd, parts, count)
NEVER(ssize_t, pwritev, (int fd, const struct iovec *parts, int count, off_t at), fd,
      fd, parts, count, at)
NEVER(int, fallocate, (int fd, int mode, off_t at, off_t size), fd, fd, mode, at, size)
NEVER(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), fd, fd, mode, at, size)
NEVER(int, posix_fallocate, (int fd, off_t at, off_t size), fd, fd, at, size)
NEVER(int, posix_fallocate64, (int fd, off64_t at, off64_t size), fd, fd, at, size)
NEVER(ssize_t, copy_file_range,
      (int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags), out,
      in, from, out, to, size, flags)
NEVER(int, dup, (int fd), fd, fd)
NEVER(int, dup2, (int fd, int other), fd, fd, other)
NEVER(void *, mmap, (void *at, size_t size, int allowed, int flags, int fd, off_t from),
      (allowed & PROT_WRITE) && (flags & MAP_SHARED) ? fd : -1, at, size, allowed, flags, fd, from)
NEVER(void *, mmap64, (void *at, size_t size, int allowed, int flags, int fd, off64_t from),
      (allowed & PROT_WRITE) && (flags & MAP_SHARED) ? fd : -1, at, size, allowed, flags, fd, from)
