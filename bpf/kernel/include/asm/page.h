#ifndef OTELBEE_PAGE_H
#define OTELBEE_PAGE_H
#define PAGE_SIZE 4096
#endif
