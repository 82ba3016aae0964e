/* A CUDA driver without a GPU, for device_cuda.rs: device memory is the host's, kernels are not run, and every call that
 * matters is written to a log that the test reads. It stands in for an H200 with 1 GiB of memory. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOTAL ((size_t)1 << 30)
typedef unsigned long long Pointer;

char fake_log[1 << 16];
/* Whether cubins are refused, as a driver older than the ptxas that made them would. */
int fake_refuse_cubins;
static size_t used;
static int capturing, nodes;
static void *const STREAM = (void *)0x51;

static int say(const char *format, ...) {
    size_t at = strlen(fake_log);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fake_log + at, sizeof fake_log - at - 2, format, arguments);
    va_end(arguments);
    strcat(fake_log, "\n");
    return 0;
}

int cuInit(unsigned flags) { return flags; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int len, int device) { (void)device; snprintf(name, len, "Fake H200"); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { (void)device; *bytes = TOTAL; return 0; }
int cuDeviceGetPCIBusId(char *id, int len, int device) { (void)device; snprintf(id, len, "0000:1b:00.0"); return 0; }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    switch (attribute) {
    case 75: *value = 9; return 0;
    case 76: *value = 0; return 0;
    case 16: *value = 132; return 0;
    case 97: *value = 232448; return 0;
    case 13: return 801; /* the clock: newer drivers may not tell it */
    default: *value = attribute; return 0;
    }
}

int cuGetErrorName(int code, const char **text) { (void)code; *text = "CUDA_ERROR_FAKE"; return 0; }
int cuGetErrorString(int code, const char **text) { (void)code; *text = "said by the driver"; return 0; }

int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = (void *)0xC; return say("retain"); }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return say("release"); }
int cuCtxSetCurrent(void *context) { return context == (void *)0xC ? 0 : 201; }
int cuCtxSynchronize(void) { return 0; }

int cuMemGetInfo_v2(size_t *free, size_t *total) { *free = TOTAL - used; *total = TOTAL; return 0; }
int cuMemAlloc_v2(Pointer *pointer, size_t bytes) {
    if (bytes > TOTAL - used) return 2;
    used += bytes;
    *pointer = (Pointer)(uintptr_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    return 0;
}
int cuMemFree_v2(Pointer pointer) { free((void *)(uintptr_t)pointer); return say("free"); }
int cuMemcpyHtoD_v2(Pointer to, const void *from, size_t bytes) {
    if (capturing) return 906;
    memcpy((void *)(uintptr_t)to, from, bytes);
    return 0;
}
int cuMemcpyDtoH_v2(void *to, Pointer from, size_t bytes) {
    if (capturing) return 906;
    memcpy(to, (void *)(uintptr_t)from, bytes);
    return 0;
}
int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t bytes, void *stream) {
    if (stream != STREAM) return 400;
    memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes);
    nodes++;
    return 0;
}
int cuMemsetD8_v2(Pointer to, unsigned char byte, size_t bytes) { memset((void *)(uintptr_t)to, byte, bytes); return 0; }
int cuMemsetD8Async(Pointer to, unsigned char byte, size_t bytes, void *stream) {
    if (stream != STREAM) return 400;
    nodes++;
    return cuMemsetD8_v2(to, byte, bytes);
}

int cuStreamCreateWithPriority(void **stream, unsigned flags, int priority) {
    (void)priority;
    *stream = STREAM;
    return flags; /* a stream that ignores the null stream would not be ordered with uploads */
}
int cuStreamDestroy_v2(void *stream) { (void)stream; return say("stream destroyed"); }
int cuStreamSynchronize(void *stream) { return stream == STREAM ? 0 : 400; }
int cuEventCreate(void **event, unsigned flags) { (void)flags; *event = malloc(8); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventRecord(void *event, void *stream) { (void)event; return stream == STREAM ? 0 : 400; }
int cuEventSynchronize(void *event) { (void)event; return 0; }
int cuEventElapsedTime(float *ms, void *start, void *end) { (void)start; (void)end; *ms = 0.125f; return 0; }

int cuModuleLoadDataEx(void **module, const void *image, unsigned count, int *options, void **values) {
    int cubin = memcmp(image, "\177ELF", 4) == 0;
    if (cubin && fake_refuse_cubins) {
        if (count == 2 && options[0] == 5 && options[1] == 6) snprintf(values[0], (size_t)values[1], "too new a cubin");
        return 200;
    }
    if (!cubin && strstr(image, ".entry") == NULL) return 218;
    *module = (void *)0x30;
    return say("load %s", cubin ? "cubin" : "ptx");
}
int cuModuleUnload(void *module) { (void)module; return say("unload"); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
    if (module != (void *)0x30) return 400;
    *function = strdup(name);
    return say("function %s", name);
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    return say("attribute %s %d=%d", (char *)function, attribute, value);
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *function, int threads, size_t shared) {
    (void)function;
    *blocks = 2048 / threads;
    return shared > 232448;
}

/* All kernels launched here take a pointer, a pointer, a pointer and four 32-bit numbers. */
static int log_launch(const char *how, void *function, unsigned *grid, unsigned *block, unsigned shared, void **params) {
    nodes++;
    return say("%s %s grid=%u,%u,%u block=%u,%u,%u shared=%u params=%llx,%llx,%llx,%u,%u,%u,%u", how, (char *)function,
               grid[0], grid[1], grid[2], block[0], block[1], block[2], shared, *(Pointer *)params[0],
               *(Pointer *)params[1], *(Pointer *)params[2], *(unsigned *)params[3], *(unsigned *)params[4],
               *(unsigned *)params[5], *(unsigned *)params[6]);
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **params, void **extra) {
    unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
    if (stream != STREAM || extra != NULL) return 400;
    if (shared == 4096) return 719; /* the test's way to ask for a fault */
    return log_launch("launch", function, grid, block, shared, params);
}

/* As cuda.h of CUDA 12 declares them; only what the test uses of the union is named. */
typedef struct {
    unsigned id;
    char pad[8 - sizeof(unsigned)];
    union {
        char pad[64];
        int programmatic_stream_serialization_allowed;
        struct { unsigned x, y, z; } cluster;
    } value;
} Attribute;
typedef struct {
    unsigned gridDimX, gridDimY, gridDimZ, blockDimX, blockDimY, blockDimZ, sharedMemBytes;
    void *hStream;
    Attribute *attrs;
    unsigned numAttrs;
} Config;
int cuLaunchKernelEx(const Config *c, void *function, void **params, void **extra) {
    char how[64] = "";
    if (c->hStream != STREAM || extra != NULL || c->numAttrs < 1 || c->numAttrs > 2) return 400;
    for (unsigned i = 0; i < c->numAttrs; i++) {
        const Attribute *a = &c->attrs[i];
        if (a->id == 4) {
            snprintf(how, sizeof how, "cluster=%u,%u,%u ", a->value.cluster.x, a->value.cluster.y, a->value.cluster.z);
        } else if (a->id == 6 && a->value.programmatic_stream_serialization_allowed == 1) {
            strcat(how, "dependent");
        } else {
            return 1;
        }
    }
    return log_launch(how, function, (unsigned *)&c->gridDimX, (unsigned *)&c->blockDimX, c->sharedMemBytes, params);
}

/* The map holds what it was made of, and its first word the number of the call. */
int cuTensorMapEncodeTiled(unsigned long long *map, int element, unsigned rank, void *address, const unsigned long long *sizes,
                           const unsigned long long *strides, const unsigned *tile, const unsigned *steps, int interleave,
                           int swizzle, int promotion, int fill) {
    static unsigned long long calls;
    if ((uintptr_t)map % 64 || rank < 1 || rank > 3) return 1;
    for (unsigned i = 0; i < rank; i++) {
        if (steps[i] != 1) return 1;
        map[1 + i] = sizes[i];
        map[7 + i] = tile[i];
        if (i > 0) map[3 + i] = strides[i - 1];
    }
    map[0] = ++calls;
    return say("map element=%d rank=%u address=%llx interleave=%d swizzle=%d promotion=%d fill=%d", element, rank,
               (Pointer)(uintptr_t)address, interleave, swizzle, promotion, fill);
}

int cuStreamBeginCapture_v2(void *stream, int mode) {
    if (capturing || stream != STREAM) return 900;
    capturing = 1;
    nodes = 0;
    return say("capture mode=%d", mode);
}
int cuStreamEndCapture(void *stream, void **graph) {
    if (!capturing || stream != STREAM) return 901;
    capturing = 0;
    *graph = (void *)0x60;
    return 0;
}
int cuGraphGetNodes(void *graph, void **array, size_t *count) { *count = nodes; return graph != (void *)0x60 || array; }
int cuGraphInstantiateWithFlags(void **exec, void *graph, unsigned long long flags) {
    *exec = (void *)0x70;
    return graph != (void *)0x60 || flags;
}
int cuGraphLaunch(void *exec, void *stream) { return exec != (void *)0x70 || stream != STREAM ? 400 : say("graph launch"); }
int cuGraphExecDestroy(void *exec) { return exec != (void *)0x70 ? 400 : say("graph exec destroyed"); }
int cuGraphDestroy(void *graph) { return graph != (void *)0x60 ? 400 : say("graph destroyed"); }
