// Preloaded before libc: the n-th open, write, fsync, close or rename of a file below one folder fails as asked.
// Built and driven by test_failing_calls.py.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[4096];
static int counted, wanted, failure;

// Calls below `below` are counted from 1; call number `n` fails with `error`, or, for 0, writes half of its bytes.
void fail_call(const char* below, int n, int error) {
    snprintf(folder, sizeof folder, "%s", below);
    counted = 0;
    wanted = n;
    failure = error;
}

int calls_made(void) { return counted; }

static int now(void) { return ++counted == wanted; }

static int inside(const char* path) { return folder[0] && strncmp(path, folder, strlen(folder)) == 0; }

static int inside_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = folder[0] ? readlink(link, path, sizeof path - 1) : -1;
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static int open_with(const char* name, const char* path, int flags, va_list more) {
    const mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    if (inside(path) && now() && failure) {
        errno = failure;
        return -1;
    }
    return ((int (*)(const char*, int, ...))dlsym(RTLD_NEXT, name))(path, flags, mode);
}

int open(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const int fd = open_with("open", path, flags, more);
    va_end(more);
    return fd;
}

int open64(const char* path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    const int fd = open_with("open64", path, flags, more);
    va_end(more);
    return fd;
}

ssize_t write(int fd, const void* data, size_t size) {
    if (inside_fd(fd) && now()) {
        if (failure) {
            errno = failure;
            return -1;
        }
        size -= size / 2;
    }
    return REAL(ssize_t, write, int, const void*, size_t)(fd, data, size);
}

int fsync(int fd) {
    if (inside_fd(fd) && now() && failure) {
        errno = failure;
        return -1;
    }
    return inside_fd(fd) ? 0 : REAL(int, fsync, int)(fd);  // no power is cut here, and waiting for disks takes long
}

int close(int fd) {
    const int fails = inside_fd(fd) && now() && failure;
    const int result = REAL(int, close, int)(fd);
    if (!fails) return result;
    errno = failure;  // Linux has closed it all the same
    return -1;
}

int rename(const char* from, const char* to) {
    if (inside(from) && now() && failure) {
        errno = failure;
        return -1;
    }
    return REAL(int, rename, const char*, const char*)(from, to);
}
