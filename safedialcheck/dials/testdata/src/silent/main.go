package main

import "fmt"

func main() {
	fmt.Println("It has nothing to do with HTTP.")
}
