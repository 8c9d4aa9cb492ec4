#include <annal/abi.h>

/* Compiled as strict C11: that it compiles is the test. */
const annal_module *annal_abi_stands_alone(const annal_module *module);
const annal_module *annal_abi_stands_alone(const annal_module *module) {
    return module != NULL && ANNAL_HAS(module, annal_module, components) ? module : NULL;
}
