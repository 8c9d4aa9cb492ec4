__attribute__((visibility("default"))) void absent_function(void);
void absent_function(void) {}
