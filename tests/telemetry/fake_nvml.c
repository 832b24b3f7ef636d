/* A libnvidia-ml.so.1 with one GPU, for the tests of edgetop. FAKE_NVML_MODE says which:
 *   desktop    (the default) everything that a GeForce of the Ada generation answers
 *   jetson     initialises and lists a device, and supports none of the power queries
 *   frozen     the energy counter stands still
 *   lost       the GPU falls off the bus after FAKE_NVML_READS readings of its power
 *   no-driver  does not initialise
 * Compiled with -DNO_FIELD_VALUES it lacks nvmlDeviceGetFieldValues, as drivers of old do.
 * The energy counter steps every 100 ms, as a real one does, at 60 W.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };

typedef struct {
    unsigned field, scope;
    long long timestamp, latency;
    int type, result;
    union {
        double d;
        unsigned u;
        unsigned long long ull;
    } value;
} Field;

static int is_mode(const char *mode)
{
    const char *asked = getenv("FAKE_NVML_MODE");
    return strcmp(asked ? asked : "desktop", mode) == 0;
}

static int power_result(void)
{
    static int reads;
    const char *limit = getenv("FAKE_NVML_READS");
    if (is_mode("jetson"))
        return NOT_SUPPORTED;
    return is_mode("lost") && ++reads > atoi(limit ? limit : "0") ? GPU_IS_LOST : SUCCESS;
}

static unsigned long long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

int nvmlInit_v2(void) { return is_mode("no-driver") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int result) { return result == GPU_IS_LOST ? "GPU is lost" : "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { (void)index; *device = &power_result; return SUCCESS; }

int nvmlDeviceGetName(void *device, char *name, unsigned length)
{
    (void)device;
    strncpy(name, is_mode("jetson") ? "Orin (nvgpu)" : "NVIDIA GeForce RTX 4090", length);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
    strncpy(version, "595.78", length);
    return SUCCESS;
}

int nvmlDeviceGetArchitecture(void *device, unsigned *architecture)
{
    (void)device;
    *architecture = is_mode("jetson") ? 7 : 8;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    (void)device;
    *major = 8;
    *minor = is_mode("jetson") ? 7 : 9;
    return SUCCESS;
}

int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *least, unsigned *most)
{
    (void)device;
    *least = 150000;
    *most = 600000;
    return is_mode("jetson") ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj)
{
    (void)device;
    *energy_mj = 5000000 + (is_mode("frozen") ? 0 : now_ms() / 100 * 100 * 60);
    return is_mode("jetson") ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *power_mw)
{
    (void)device;
    *power_mw = 61000;
    return power_result();
}

#ifndef NO_FIELD_VALUES
int nvmlDeviceGetFieldValues(void *device, int count, Field *fields)
{
    (void)device;
    for (int i = 0; i < count; i++) {
        int is_power = (fields[i].field == 185 || fields[i].field == 186) && fields[i].scope == 0;
        fields[i].result = is_power ? power_result() : NOT_SUPPORTED;
        fields[i].type = 1;
        fields[i].value.u = fields[i].field == 186 ? 60000 : 59000;
    }
    return SUCCESS;
}
#endif
