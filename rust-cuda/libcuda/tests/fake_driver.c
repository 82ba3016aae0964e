/* A driver that does nothing but write down the arguments it got, for forwarding.rs. */
#include <stdint.h>
#include <string.h>

typedef struct { char bytes[64]; } Handle;

/* What the last call received. */
struct Record {
    uint64_t integers[11];
    float floats[8];
    char bytes[64];
    uint64_t stack_misalignment;
} record;

static void note_stack(void) { record.stack_misalignment = (uint64_t)__builtin_frame_address(0) % 16; }

int cuInit(unsigned flags) { note_stack(); record.integers[0] = flags; return 0; }

int cuDeviceGetCount(int *count) { *count = 1; return 0; }

int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    note_stack();
    uint64_t got[11] = {(uint64_t)f, gx, gy, gz, bx, by, bz, shared, (uint64_t)stream, (uint64_t)params, (uint64_t)extra};
    memcpy(record.integers, got, sizeof got);
    return 0;
}

int cuTexRefSetMipmapLevelClamp(void *reference, float low, float high) {
    note_stack();
    record.integers[0] = (uint64_t)reference;
    record.floats[0] = low;
    record.floats[1] = high;
    return 0;
}

/* A struct by value, passed on the stack. */
int cuIpcOpenMemHandle_v2(uint64_t *pointer, Handle handle, unsigned flags) {
    note_stack();
    *pointer = 0x1122334455667788;
    memcpy(record.bytes, handle.bytes, 64);
    record.integers[0] = flags;
    return 0;
}

/* Real drivers give this 4 arguments; eight of each class fill every register, and the rest the stack. */
int cuProfilerInitialize(uint64_t a, float fa, uint64_t b, float fb, uint64_t c, float fc, uint64_t d, float fd,
                         uint64_t e, float fe, uint64_t f, float ff, uint64_t g, float fg, uint64_t h, float fh) {
    note_stack();
    uint64_t integers[8] = {a, b, c, d, e, f, g, h};
    float floats[8] = {fa, fb, fc, fd, fe, ff, fg, fh};
    memcpy(record.integers, integers, sizeof integers);
    memcpy(record.floats, floats, sizeof floats);
    return 719;
}

int cuLaunchKernelEx(void) { return 0; }
