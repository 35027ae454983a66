package text
import ("testing";"fmt")
func TestQuick(t *testing.T){
 p:=NewParser(DefaultLimits())
 in:=[]byte("GET /app\n@a1 set /app v=7 \"new value\"\r\n\r\nSET /x :5\nhello\nTXN 2\nCHECK /a v=1\nSET /b :3\nabc\nTXN 2\nCHECK a\nFOO\nFOO :3\nabc\nPING\nGET /x HTTP/1.1\n")
 for len(in)>0 { r,n,err:=p.Next(in); fmt.Printf("%v %+v %q\n",err,r,in[:n]); in=in[n:]; if r==nil&&err==nil {break}
  if e,ok:=err.(*Error);ok{ rr:=e.Reply(); fmt.Printf("%s", rr.Append(nil,FormatText,e.CRLF)) } }
}
func BenchmarkGet(b *testing.B){ p:=NewParser(DefaultLimits()); in:=[]byte("GET /app/config/item\n"); b.ReportAllocs(); for b.Loop(){ p.Next(in)}}
func BenchmarkSet(b *testing.B){ p:=NewParser(DefaultLimits()); in:=append([]byte("SET /app/config/item :100\n"),make([]byte,100)...); in=append(in,'\n'); b.ReportAllocs(); for b.Loop(){ p.Next(in)}}
func BenchmarkReplyData(b *testing.B){ d:=make([]byte,100); var dst []byte; b.ReportAllocs(); for b.Loop(){ r:=Reply{Kind:KindData,Data:d,Fields:[]Field{Int(KeyVersion,3),Hex(KeyZxid,0x100000005)}}; dst=r.Append(dst[:0],FormatText,false)}}
