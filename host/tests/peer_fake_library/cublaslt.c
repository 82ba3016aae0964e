/* A cuBLASLt for peer_cublaslt.rs: matrices are the host's memory and are multiplied by three loops, stored by columns as
 * cublasLt.h says. It refuses what the real one would: objects that were not made, attributes of the wrong size, a workspace
 * smaller than it asked for. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 7, UNSUPPORTED = 15, F32 = 0, F16 = 2, BF16 = 14 };
enum { HANDLE = 0x4C74, DESC = 0xDE5C, LAYOUT = 0x1A70, PREF = 0x9EEF };
#define NEEDS ((size_t)1 << 20)

typedef struct { int magic, compute, scale, transa, transb, epilogue; void *bias; } Desc;
typedef struct { int magic, type; uint64_t rows, columns; int64_t ld; } Layout;
typedef struct { int magic; uint64_t workspace; } Pref;
typedef struct { uint64_t data[8]; } Algo;
typedef struct { Algo algo; size_t workspace; int state; float waves; int reserved[4]; } Result;

int fake_alive;

size_t cublasLtGetVersion(void) { return 130002; }
int cublasLtCreate(void **handle) { *handle = (void *)HANDLE; fake_alive++; return OK; }
int cublasLtDestroy(void *handle) { if (handle != (void *)HANDLE) return INVALID; fake_alive--; return OK; }

int cublasLtMatmulDescCreate(Desc **desc, int compute, int scale) {
    *desc = calloc(1, sizeof(Desc));
    **desc = (Desc){.magic = DESC, .compute = compute, .scale = scale, .epilogue = 1};
    fake_alive++;
    return compute == 68 && scale == F32 ? OK : UNSUPPORTED;
}
int cublasLtMatmulDescDestroy(Desc *desc) { if (desc->magic != DESC) return INVALID; free(desc); fake_alive--; return OK; }
int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
    if (desc->magic != DESC || bytes != (attribute == 8 ? 8 : 4)) return INVALID;
    switch (attribute) {
    case 3: memcpy(&desc->transa, value, 4); return OK;
    case 4: memcpy(&desc->transb, value, 4); return OK;
    case 7: memcpy(&desc->epilogue, value, 4); return OK;
    case 8: memcpy(&desc->bias, value, 8); return OK;
    default: return INVALID;
    }
}

int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    *layout = calloc(1, sizeof(Layout));
    **layout = (Layout){LAYOUT, type, rows, columns, ld};
    fake_alive++;
    return (uint64_t)ld >= rows ? OK : INVALID;
}
int cublasLtMatrixLayoutDestroy(Layout *l) { if (l->magic != LAYOUT) return INVALID; free(l); fake_alive--; return OK; }

int cublasLtMatmulPreferenceCreate(Pref **pref) { *pref = calloc(1, sizeof(Pref)); (*pref)->magic = PREF; fake_alive++; return OK; }
int cublasLtMatmulPreferenceDestroy(Pref *pref) { if (pref->magic != PREF) return INVALID; free(pref); fake_alive--; return OK; }
int cublasLtMatmulPreferenceSetAttribute(Pref *pref, int attribute, const void *value, size_t bytes) {
    if (pref->magic != PREF || attribute != 1 || bytes != 8) return INVALID;
    memcpy(&pref->workspace, value, 8);
    return OK;
}

/* Three algorithms: a good one, one that failed its own check, one more good one. None for an odd k. */
int cublasLtMatmulAlgoGetHeuristic(void *handle, Desc *desc, Layout *a, Layout *b, Layout *c, Layout *d, Pref *pref,
                                   int count, Result *results, int *found) {
    if (handle != (void *)HANDLE || desc->magic != DESC || a->magic != LAYOUT || b->magic != LAYOUT) return INVALID;
    if (c->magic != LAYOUT || d->magic != LAYOUT || pref->magic != PREF || count < 3) return INVALID;
    if (a->rows % 2 || pref->workspace < NEEDS) return UNSUPPORTED;
    memset(results, 0, 3 * sizeof(Result));
    for (int i = 0; i < 3; i++) {
        results[i].algo.data[0] = 66 + i;
        results[i].workspace = NEEDS;
        results[i].state = i == 1 ? UNSUPPORTED : OK;
    }
    *found = 3;
    return OK;
}
int cublasLtMatmulAlgoConfigGetAttribute(const Algo *algo, int attribute, void *value, size_t bytes, size_t *written) {
    *written = attribute >= 7 ? 2 : 4;
    if (bytes < *written) return INVALID;
    uint32_t v = attribute == 0 ? (uint32_t)algo->data[0] : attribute == 8 ? 2 : 0;
    memcpy(value, &v, *written);
    return OK;
}

static float half_to_float(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, bits = h & 0x3FF;
    float value = exponent ? (float)(bits | 0x400) : (float)bits;
    for (int e = exponent ? (int)exponent : 1; e < 25; e++) value /= 2;
    for (int e = 25; e < (int)exponent; e++) value *= 2;
    uint32_t word;
    memcpy(&word, &value, 4);
    word |= sign;
    memcpy(&value, &word, 4);
    return value;
}
static float get(const void *p, int type, uint64_t i) {
    if (type == F32) return ((const float *)p)[i];
    uint16_t h = ((const uint16_t *)p)[i];
    if (type == F16) return half_to_float(h);
    uint32_t word = (uint32_t)h << 16;
    float value;
    memcpy(&value, &word, 4);
    return value;
}
/* To nearest even; f16 is left to the f32 outputs of the test. */
static void put(void *p, int type, uint64_t i, float value) {
    uint32_t word;
    if (type == F32) { ((float *)p)[i] = value; return; }
    memcpy(&word, &value, 4);
    ((uint16_t *)p)[i] = (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16);
}
/* An element of op(X). */
static float at(const void *p, const Layout *l, int transposed, uint64_t row, uint64_t column) {
    return get(p, l->type, transposed ? column + row * (uint64_t)l->ld : row + column * (uint64_t)l->ld);
}

int cublasLtMatmul(void *handle, Desc *desc, const float *alpha, const void *a, Layout *la, const void *b, Layout *lb,
                   const float *beta, const void *c, Layout *lc, void *d, Layout *ld, const Algo *algo, void *workspace,
                   size_t bytes, void *stream) {
    if (handle != (void *)HANDLE || desc->magic != DESC || workspace == NULL || bytes < NEEDS) return INVALID;
    if (stream != (void *)0x51 || (algo->data[0] != 66 && algo->data[0] != 68)) return INVALID;
    uint64_t rows = desc->transa ? la->columns : la->rows, inner = desc->transa ? la->rows : la->columns;
    uint64_t columns = desc->transb ? lb->rows : lb->columns;
    if (ld->rows != rows || ld->columns != columns || lc->rows != rows || lc->columns != columns) return INVALID;
    if ((desc->transb ? lb->columns : lb->rows) != inner || (desc->epilogue == 4 && !desc->bias)) return INVALID;
    for (uint64_t j = 0; j < columns; j++)
        for (uint64_t i = 0; i < rows; i++) {
            float sum = 0;
            for (uint64_t k = 0; k < inner; k++) sum += at(a, la, desc->transa, i, k) * at(b, lb, desc->transb, k, j);
            sum *= *alpha;
            if (*beta != 0) sum += *beta * at(c, lc, 0, i, j);
            if (desc->epilogue == 4) sum += get(desc->bias, ld->type, i);
            put(d, ld->type, i + j * (uint64_t)ld->ld, sum);
        }
    /* The second algorithm is wrong in its last element, for the test that bytes are compared. */
    if (algo->data[0] == 68) put(d, ld->type, columns * rows - 1, -1.0f);
    return OK;
}
