/* One source, built several times with one thing wrong each: see the CMakeLists.txt beside it. */
#include <annal/abi.h>

#ifndef MODULE_MAJOR
#define MODULE_MAJOR ANNAL_ABI_MAJOR
#endif
#ifndef MODULE_MINOR
#define MODULE_MINOR ANNAL_ABI_MINOR
#endif
#ifndef MODULE_SIZE
#define MODULE_SIZE sizeof(annal_module)
#endif
#ifndef SINK_SEND
#define SINK_SEND send
#endif
#ifndef MODULE_ENTRY
#define MODULE_ENTRY annal_module_v1
#endif

static annal_status create(const annal_init *init, void **self, annal_error *error) {
    (void)init, (void)error;
    *self = (void *)0;
    return ANNAL_OK;
}
static void destroy(void *self) { (void)self; }
#ifdef MODULE_NEEDS
extern void absent_function(void);
#endif
static void send(void *self, const annal_delivery *delivery) {
    (void)self;
#ifdef MODULE_NEEDS
    absent_function();
#endif
    delivery->done(delivery->d, ANNAL_DELIVERED, (const annal_verdict *)0, 0, (const annal_error *)0);
}

/* Named here, so that a module without it is one with an unused function and not another source. */
static void (*const unused)(void *, const annal_delivery *) = send;

static const annal_sink_v1 sink = {sizeof(annal_sink_v1), 0, create, destroy, 0, SINK_SEND, 0};
static const annal_component component = {
    sizeof(annal_component), 0, ANNAL_COMPONENT_SINK, "only", "{\"type\":\"object\",\"additionalProperties\":false}", &sink, 0};
static const annal_component *const components[] = {&component};
static const annal_module module = {
    MODULE_SIZE, MODULE_MAJOR, MODULE_MINOR, "org.annal.test", "1.0.0", "Annal", "Apache-2.0", 1, 0, components};

ANNAL_EXPORT const annal_module *MODULE_ENTRY(void);
ANNAL_EXPORT const annal_module *MODULE_ENTRY(void) {
    (void)unused;
    return &module;
}
