// The AWS SDK for Go, version 1: asks S3 at S3_URL; with AGAIN_AFTER once more after as many seconds.
package main

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go/aws"
	"github.com/aws/aws-sdk-go/aws/session"
	"github.com/aws/aws-sdk-go/service/s3"
)

func main() {
	if len(os.Args) > 1 {
		fmt.Println(aws.SDKVersion)
		return
	}
	config := aws.Config{Endpoint: aws.String(os.Getenv("S3_URL")), S3ForcePathStyle: aws.Bool(true)}
	client := s3.New(session.Must(session.NewSession(&config)))
	ask(client)
	if seconds, err := strconv.ParseFloat(os.Getenv("AGAIN_AFTER"), 64); err == nil {
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		ask(client)
	}
}

func ask(client *s3.S3) {
	if _, err := client.ListBuckets(&s3.ListBucketsInput{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
